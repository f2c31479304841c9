"""Implements system (a): one process, which calls the provider while its own client waits.

A semaphore limits the calls in flight. Without OPENROUTER_BASE_URL no call works.

`uvicorn benchmarks.semaphore:app`
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import BaseModel, Field

URL = os.environ.get("OPENROUTER_BASE_URL", "") + "/chat/completions"
LIMIT = int(os.environ.get("MAX_CONCURRENT_REQUESTS", "10"))


class Message(BaseModel):
    role: str
    content: str


class LLMRequest(BaseModel):
    provider: str
    model: str
    messages: list[Message]
    temperature: float = 0.7
    max_tokens: int = 1000


class BatchLLMRequest(BaseModel):
    requests: list[LLMRequest] = Field(min_length=1, max_length=100)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(timeout=30) as client:
        app.state.client = client
        app.state.semaphore = asyncio.Semaphore(LIMIT)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/batch")
async def post_batch(batch: BatchLLMRequest) -> dict[str, Any]:
    started = time.perf_counter()
    responses = await asyncio.gather(*(_run(request) for request in batch.requests))
    return {
        "responses": responses,
        "successful": len(responses),
        "total_latency_ms": (time.perf_counter() - started) * 1000,
    }


async def _run(request: LLMRequest) -> dict[str, Any]:
    async with app.state.semaphore:
        return await call(app.state.client, request.model_dump(mode="json"))


async def call(client: httpx.AsyncClient, request: dict[str, Any]) -> dict[str, Any]:
    """Calls the provider. Raises httpx.HTTPError if this fails. System (b) calls this, too."""
    answer = await client.post(URL, json={**request, "provider": None, "stream": False})
    answer.raise_for_status()
    body = answer.json()
    return {
        "content": body["choices"][0]["message"]["content"],
        "total_tokens": body["usage"]["total_tokens"],
        "latency_ms": answer.elapsed.total_seconds() * 1000,
    }
