"""Stores the idempotency key of the newest `orchestrator submit --new` for each input.

Without this key, the same command without `--new` would not continue the newest job, but submit
another job or continue an older job. Each key is a small file on this machine.
"""

import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

KEPT_S = 30 * 86_400  # seconds; jobs are kept for a day by default


class NewestKeys:
    """Stores one key for each input, in files.

    The idempotency key that is derived from an input identifies the input.

    directory: the directory of the files. None: no key is stored.
    url, api_key: address of the API, and API key of the user. Keys are stored separately for each
        pair, because an idempotency key belongs to one API and one owner.
    """

    def __init__(self, directory: Path | None, url: str, api_key: str) -> None:
        self._directory = directory
        self._place = f"{url}\0{api_key}"

    def create(self, derived: str) -> str | None:
        """Returns a new key for the input whose derived key is `derived`, and stores the new key.

        Deletes keys that are older than KEPT_S. Returns None if the new key cannot be stored.
        """
        if self._directory is None:
            return None
        key, path = str(uuid4()), self._path(self._directory, derived)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._delete_old(path.parent)
            new = path.with_name(f"{path.name}.{key}")
            new.write_text(key, "ascii")
            new.replace(path)
        except OSError:
            return None
        return key

    def find(self, derived: str) -> str | None:
        """Returns the key that is stored for the input, or None if no key can be read."""
        if self._directory is not None:
            with suppress(OSError, UnicodeError):
                return self._path(self._directory, derived).read_text("ascii") or None
        return None

    def _path(self, directory: Path, derived: str) -> Path:
        return directory / sha256(f"{self._place}\0{derived}".encode()).hexdigest()

    def _delete_old(self, directory: Path) -> None:
        for path in directory.iterdir():
            if path.stat().st_mtime < time.time() - KEPT_S:
                path.unlink(missing_ok=True)


def state_directory() -> Path | None:
    """Returns the directory for the commands' state (XDG Base Directory).

    Returns None if the user has no home directory.
    """
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state) / "llm-batch-orchestrator"
    try:
        return Path.home() / ".local" / "state" / "llm-batch-orchestrator"
    except RuntimeError:
        return None
