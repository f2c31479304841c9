"""Creates directories for the data of the Valkey servers that tests start."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

MEMORY = Path("/dev/shm")  # noqa: S108 — the directory inside has a random name
ENOUGH_BYTES = 4 * 2**30


def data_directory() -> TemporaryDirectory[str]:
    """Creates a directory, which the caller removes.

    The directory is in memory if there is room. A server that writes each command to a busy disk
    may not answer for seconds, so that leases expire. A server that is killed loses nothing in
    either case. The path is short, because the path of a socket is limited.
    """
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES
    return TemporaryDirectory(prefix="vk-", dir=MEMORY if has_room else None)
