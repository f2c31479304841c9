"""Implements system (b): arq with its defaults. A request is one arq job; results are polled.

`uvicorn benchmarks.stock_arq:app` · `arq benchmarks.stock_arq.WorkerSettings`
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from arq import create_pool
from arq.connections import RedisSettings
from fastapi import FastAPI

from benchmarks.semaphore import LIMIT, BatchLLMRequest, call

REDIS = RedisSettings(unix_socket_path=os.environ.get("REDIS_URL", "").removeprefix("unix://"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.redis = await create_pool(REDIS)
    yield
    await app.state.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/batch")
async def post_batch(batch: BatchLLMRequest) -> dict[str, Any]:
    jobs = [
        await app.state.redis.enqueue_job("run", request.model_dump(mode="json"))
        for request in batch.requests
    ]
    responses = await asyncio.gather(*(job.result() for job in jobs))
    return {"responses": responses, "successful": len(responses)}


async def run(ctx: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    return await call(ctx["client"], request)


async def startup(ctx: dict[str, Any]) -> None:
    ctx["client"] = httpx.AsyncClient(timeout=30)


class WorkerSettings:
    functions = (run,)
    on_startup = startup
    redis_settings = REDIS
    max_jobs = LIMIT  # limit of one worker; arq has no limit over all workers
