"""Runs the simulator in the test's process, and calls it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from cli.simulator import Behaviour, Simulator

PATHS = {"openai": "/api/v1/chat/completions", "ollama": "/api/chat"}


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
