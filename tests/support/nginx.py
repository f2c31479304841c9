"""Runs nginx (Debian's package)."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from support.stack import eventually, free_port

PATH = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin"
NGINX = shutil.which("nginx", path=PATH)
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx (Debian's package) is not installed")

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/errors;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {upstream}
    server {{
        listen 127.0.0.1:{port}{ssl};
        {server}
    }}
}}
"""


@asynccontextmanager
async def running_nginx(
    server: str, *, upstream: str = "", ssl: bool = False
) -> AsyncIterator[int]:
    """Runs nginx. Yields the port on which nginx listens.

    server: content of the `server` block. upstream: blocks beside the `server` block.
    ssl: whether the port has TLS.
    """
    assert NGINX
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="nginx-") as directory:
        values = {"server": server, "upstream": upstream, "ssl": " ssl" if ssl else ""}
        text = _CONFIGURATION.format(directory=directory, port=port, **values)
        configuration, errors = _prepare(Path(directory), text)
        process = await asyncio.create_subprocess_exec(
            *(NGINX, "-c", configuration, "-e", errors), stderr=subprocess.DEVNULL
        )

        async def listens() -> bool:
            assert process.returncode is None, errors.read_text()
            return await accepts(port)

        try:
            await eventually(listens)
            yield port
        finally:
            process.terminate()
            await process.wait()


def _prepare(directory: Path, text: str) -> tuple[Path, Path]:
    """Returns the paths of the configuration and of the error log."""
    directory.chmod(0o755)  # nginx's worker process may have another user
    configuration = directory / "nginx.conf"
    configuration.write_text(text)
    return configuration, directory / "errors"


async def accepts(port: int) -> bool:
    """Returns whether a server accepts connections at this port."""
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False
