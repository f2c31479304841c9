"""Runs nginx with TLS in front of an API."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from support.nginx import running_nginx


@asynccontextmanager
async def tls_proxy(directory: Path, locations: str) -> AsyncIterator[httpx.URL]:
    """Starts nginx with these `location` blocks. Yields its address.

    No client trusts its certificate: see `no_verification`.
    """
    key, certificate = directory / "key", directory / "certificate"
    await _run(
        *("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=x"),
        *("-keyout", str(key), "-out", str(certificate)),
    )
    server = f"ssl_certificate {certificate}; ssl_certificate_key {key}; {locations}"
    async with running_nginx(server, ssl=True) as port:
        yield httpx.URL(f"https://127.0.0.1:{port}")


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
