"""Runs the simulator in the test's process, and calls it over HTTP or a connection."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest

from cli.simulator import Behaviour, Simulator
from cli.simulator.dialects import DIALECTS

PATHS = {"openai": "/api/v1/chat/completions", "ollama": "/api/chat"}
NO_CALLS = {name: {"total": 0, "in_flight": 0, "peak": 0} for name in DIALECTS}
both_dialects = pytest.mark.parametrize("dialect", ["openai", "ollama"])


@asynccontextmanager
async def provider(behaviour: Behaviour | None = None) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        Simulator(behaviour) as simulator,
        httpx.AsyncClient(base_url=simulator.url, timeout=30) as client,
    ):
        yield client


def chat_body(model: str = "m", text: str = "hello there") -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return {"model": model, "messages": messages, "stream": False}


async def ask(
    client: httpx.AsyncClient,
    model: str = "m",
    text: str = "hello there",
    dialect: str = "openai",
) -> httpx.Response:
    return await client.post(PATHS[dialect], json=chat_body(model, text))


async def stats(client: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await client.get("/_sim/stats")).json())


async def ledger(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    return list((await client.get("/_sim/ledger")).json())


async def stats_when(
    client: httpx.AsyncClient, ready: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while not ready(figures := await stats(client)):
            pass
    return figures


def raw_request(body: dict[str, Any], dialect: str = "openai", headers: str = "") -> bytes:
    content = orjson.dumps(body)
    head = f"POST {PATHS[dialect]} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


@asynccontextmanager
async def connected(
    client: httpx.AsyncClient, data: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Opens a connection and sends `data`."""
    url = client.base_url
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            writer.write(data)
            await writer.drain()
            yield reader, writer
        finally:
            writer.close()


async def exchanged(client: httpx.AsyncClient, data: bytes) -> bytes:
    """Sends `data`, and returns everything that the simulator sends until it disconnects."""
    async with connected(client, data) as (reader, _):
        return await reader.read()
