"""Runs nginx (Debian's package) with TLS in front of an API."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from support.stack import eventually, free_port

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx (Debian's package) is not installed")

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {directory}/certificate;
    ssl_certificate_key {directory}/key;
    {locations}
  }}
}}
"""


@asynccontextmanager
async def tls_proxy(directory: Path, locations: str) -> AsyncIterator[httpx.URL]:
    """Starts nginx with these `location` blocks. Yields its address.

    No client trusts its certificate: see `no_verification`.
    """
    assert NGINX
    await _run(
        *("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=x"),
        *("-keyout", f"{directory}/key", "-out", f"{directory}/certificate"),
    )
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(directory=directory, port=port, locations=locations)
    )
    process = await asyncio.create_subprocess_exec(
        *(NGINX, "-c", str(configuration), "-e", f"{directory}/error.log"),
        stderr=subprocess.DEVNULL,
    )

    async def listens() -> bool:
        assert process.returncode is None, (directory / "error.log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(listens)
        yield httpx.URL(f"https://127.0.0.1:{port}")
    finally:
        process.terminate()
        await process.wait()


def no_verification() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _run(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert await process.wait() == 0, argv
