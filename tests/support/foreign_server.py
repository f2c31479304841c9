"""Runs servers that this project did not write, if `tests/foreign/install` has installed them."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

START_S = (
    300  # limit of the time until a server answers: LiteLLM needs 20 s on a machine without load
)
STOP_S = 10


def installed(name: str) -> Path:
    """Returns the directory with the server. Skips the test if the server is not installed."""
    directory = os.environ.get("FOREIGN_SERVERS")
    if not directory:
        pytest.skip("FOREIGN_SERVERS is not set: see tests/foreign/install")
    if not (Path(directory) / f"{name}.installed").exists():
        missing = Path(directory) / f"{name}.missing"
        reason = missing.read_text().strip() if missing.exists() else "see tests/foreign/install"
        pytest.skip(f"{name} is not installed in {directory}: {reason}")
    return Path(directory) / name


@contextmanager
def running(
    *argv: str | Path, url: str, directory: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """Runs a server until the block ends.

    url: address that answers any status when the server is ready.
    directory: working directory of the server, and place of its log.
    """
    path = directory / "server.log"
    with path.open("wb") as log:
        server = subprocess.Popen(
            argv,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "HOME": str(directory), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(server, url, path)
        yield
    finally:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            httpx.get(url, timeout=5, trust_env=False)
        except httpx.TransportError:
            if server.poll() is not None or time.monotonic() > deadline:
                output = log.read_text(errors="replace")[-2000:]
                pytest.fail(f"{server.args!r} does not answer at {url}:\n{output}", pytrace=False)
            time.sleep(0.1)
        else:
            return
