"""Reads what a test writes to `providers.toml`."""

from collections.abc import Callable
from pathlib import Path

from shared.providers import PROVIDERS
from shared.settings.providers_file import ProvidersFile, read_providers_file

Read = Callable[[str], ProvidersFile]

GPU1 = '[providers.gpu1]\nbase_url = "http://gpu1:8000/v1"\n'


def reader(directory: Path) -> Read:
    """Returns a function that writes a text to `providers.toml` in the directory and reads it."""

    def read(text: str) -> ProvidersFile:
        path = directory / "providers.toml"
        path.write_text(text)
        return read_providers_file(path, PROVIDERS)

    return read
