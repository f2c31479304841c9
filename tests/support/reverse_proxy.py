"""Runs a real reverse proxy between a client and the API: nginx or HAProxy."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from support.nginx import PATH, accepts, running_nginx
from support.stack import eventually, free_port

PROXIES = ("nginx", "haproxy")

_NGINX = """
        client_max_body_size 0;
        location / {{
            proxy_pass http://api;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_read_timeout {timeout_ms}ms;
            proxy_next_upstream off;
        }}
"""
_HAPROXY = """
defaults
    mode http
    retries 0
    timeout connect 2s
    timeout client 60s
    timeout server {timeout_ms}ms
frontend clients
    bind 127.0.0.1:{port}
    default_backend api
backend api
    balance roundrobin
{servers}
"""


@asynccontextmanager
async def reverse_proxy(
    name: str, apis: Sequence[httpx.URL], *, timeout_s: float
) -> AsyncIterator[str]:
    """Runs a proxy that sends the requests to the APIs in turn. Yields the proxy's URL.

    The proxy disconnects from an API that sends nothing for `timeout_s`. Skips the test if the
    proxy is not installed.

    name: `nginx` or `haproxy`.
    """
    program = shutil.which(name, path=PATH)
    if program is None:
        pytest.skip(f"{name} is not installed")
    timeout_ms, ports = round(timeout_s * 1000), [api.port for api in apis]
    if name == "nginx":
        servers = "".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        server = _NGINX.format(timeout_ms=timeout_ms)
        async with running_nginx(server, upstream=f"upstream api {{ {servers} }}") as port:
            yield f"http://127.0.0.1:{port}"
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="haproxy-") as directory:
        configuration = Path(directory) / "haproxy.cfg"
        servers = "\n".join(f"    server api{port} 127.0.0.1:{port}" for port in ports)
        configuration.write_text(_HAPROXY.format(timeout_ms=timeout_ms, port=port, servers=servers))
        process = await asyncio.create_subprocess_exec(
            program, "-db", "-f", configuration, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await eventually(lambda: accepts(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()
