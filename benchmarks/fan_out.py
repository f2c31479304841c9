"""Calls a chat endpoint for many items, as a script with a semaphore and retries would."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

import httpx
from httpx_aiohttp import AiohttpTransport

KEY = "sk-simulated"
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.5, 8.0
_RETRIED = {408, 409, 429, *range(500, 600)}


async def fan_out(
    url: str,
    items: Sequence[tuple[str, str]],
    *,
    limit: int,
    retries: int,
    timeout_s: float,
    max_s: float,
) -> int:
    """Calls the endpoint for each item, in this order. Returns the number of answered items.

    items: model and prompt of each item.
    limit: number of calls at once. An item keeps its slot while it waits for a retry.
    retries: number of retries of an item. The wait before each retry is as in OpenAI's client:
        about 0.5 s, doubled up to 8 s, or the Retry-After.
    max_s: time after which the remaining calls are cancelled.
    """
    slots = asyncio.Semaphore(limit)
    async with httpx.AsyncClient(
        transport=AiohttpTransport(),
        timeout=timeout_s,
        headers={"Authorization": f"Bearer {KEY}"},
    ) as client:

        async def answered(model: str, prompt: str) -> bool:
            body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
            async with slots:
                for attempt in range(retries + 1):
                    backoff_s = min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2**attempt)
                    wait_s = backoff_s * random.uniform(0.75, 1)  # noqa: S311 — not for security
                    try:
                        answer = await client.post(f"{url}/chat/completions", json=body)
                    except httpx.TransportError:
                        pass
                    else:
                        if answer.is_success:
                            return True
                        if answer.status_code not in _RETRIED:
                            return False
                        with suppress(KeyError, ValueError):
                            wait_s = float(answer.headers["retry-after"])
                    if attempt < retries:
                        await asyncio.sleep(wait_s)
            return False

        tasks = [asyncio.create_task(answered(*item)) for item in items]
        done, late = await asyncio.wait(tasks, timeout=max_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return sum(task.result() for task in done)
