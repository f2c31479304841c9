"""Runs a real reverse proxy between a client and the API: nginx or HAProxy."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from support.stack import eventually, free_port

PROXIES = ("nginx", "haproxy")

_NGINX = """
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
    upstream api {{ {servers} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://api;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_read_timeout {timeout_ms}ms;
            proxy_next_upstream off;
        }}
    }}
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
    """Yields the URL of a proxy, which gives each of the APIs every other request.

    The proxy hangs up on an API that sends nothing for `timeout_s`. Skips the test if the proxy is
    not installed.
    """
    program = shutil.which(name, path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")
    if program is None:
        pytest.skip(f"{name} is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as directory:
        configuration, argv = _configure(name, Path(directory), port, apis, timeout_s)
        process = await asyncio.create_subprocess_exec(
            program, *argv, configuration, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await eventually(lambda: _accepts(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()


def _configure(
    name: str, directory: Path, port: int, apis: Sequence[httpx.URL], timeout_s: float
) -> tuple[str, list[str]]:
    """Returns the path of the proxy's configuration, and the arguments that come before it."""
    template, server, argv = (
        (_NGINX, "server 127.0.0.1:{api.port} max_fails=0;", ["-g", "daemon off;", "-c"])
        if name == "nginx"
        else (_HAPROXY, "    server api{api.port} 127.0.0.1:{api.port}", ["-db", "-f"])
    )
    directory.chmod(0o755)  # nginx's worker process may have another user
    configuration = directory / "configuration"
    configuration.write_text(
        template.format(
            directory=directory,
            port=port,
            timeout_ms=round(timeout_s * 1000),
            servers="\n".join(server.format(api=api) for api in apis),
        )
    )
    return str(configuration), argv


async def _accepts(port: int) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False
