"""Protects directories and their files from other users of this machine."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

UMASK = 0o077  # the umask of processes that write private files
_OTHERS_WRITE = 0o022


class NotPrivate(Exception):
    """Another user could read or replace files. str(error) says which, and what to do."""


def make_private(directory: Path) -> None:
    """Creates the directory, or takes all rights to an existing directory from other users.

    Raises NotPrivate, OSError.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    _check_owner(directory)
    directory.chmod(0o700)


def make_files_private(directory: Path, names: Iterable[str]) -> None:
    """Creates the directory if necessary, and takes the rights to the named files from other users.

    Keeps the mode of a directory that exists, because it may also have files that other users need.
    Raises NotPrivate, OSError.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _check_owner(directory).st_mode & _OTHERS_WRITE:
        raise NotPrivate(
            f"Other users may write to {directory}. Run `chmod go-w {directory}`,"
            " or set DATA_DIR to another directory."
        )
    for path in (directory / name for name in names):
        if os.path.lexists(path):
            is_directory = stat.S_ISDIR(_check_owner(path).st_mode)
            path.chmod(0o700 if is_directory else 0o600)


def _check_owner(path: Path) -> os.stat_result:
    """Returns the status of `path`. Raises NotPrivate for a link or a file of another user."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise NotPrivate(f"{path} is a link. Remove the link, because it may lead to other files.")
    if status.st_uid != os.getuid():
        raise NotPrivate(
            f"{path} belongs to user {status.st_uid}, not to you (user {os.getuid()})."
            " Remove it, or set DATA_DIR and TMPDIR to directories of your own."
        )
    return status
