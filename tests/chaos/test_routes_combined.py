"""Combines aliases, key pools, fallbacks, deadlines, idempotency keys, cancelling and retries.

Each run is random: jobs of all kinds, outages, a limit below the configured one, lost workers.
"""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from support.invariants import drained
from support.jobs import NDJSON, results, upload, wait_completed
from support.search_depth import examples
from support.stack import Stack, chat, eventually

from cli.simulator import Behaviour, Simulator
from cli.simulator.outages import Outage
from shared.queue.redis_keys import Keys

pytestmark = pytest.mark.chaos

FILE = """
[providers.gpu1]
base_url = "{url}/v1"
max_concurrent_requests = 6
rpm = 6000
[providers.gpu1.models."lim*"]
max_concurrent_requests = 2
[providers.gpu2]
base_url = "{url}/v1"
max_concurrent_requests = 5
[providers.gpu3]
base_url = "{url}/v1"
max_concurrent_requests = 4
adaptive = true
[providers.nokey]
base_url = "{url}/v1"
key_required = true
[models.fast]
deployments = [
    {{ provider = "gpu1", model = "lim-a", weight = 3 }},
    {{ provider = "gpu2", model = "b" }},
]
fallbacks = ["gpu3/c", "slow"]
after_s = 1
[models.slow]
deployments = [{{ provider = "gpu3", model = "d" }}, {{ provider = "gpu2", model = "e" }}]
after_s = 0
[models.bad]
deployments = [
    {{ provider = "gpu1", model = "sim-404" }},
    {{ provider = "gpu2", model = "sim-500" }},
]
fallbacks = ["nokey/x", "gpu3/sim-429x1", "fast"]
after_s = 1
"""
PROVIDERS = ("gpu1", "gpu2", "gpu3", "nokey")
MODELS = ("a", "lim-a", "lim-b", "sim-404", "sim-500", "sim-429x1", "sim-401", "sim-drop", "M")
FALLBACKS = ("gpu1/a", "gpu2/b", "gpu3/c", "fast", "slow", "bad", "nokey/x", "gpu2/sim-404")
ALIASES = ("fast", "slow", "bad", "FAST", "gpu1/a", "gpu3/sim-429x2")
USUAL = Behaviour(latency_ms=30)
JOBS = examples(6, full=14)


def request(rng: random.Random, text: str, *, native: bool) -> dict[str, Any]:
    if not native:
        return {"model": rng.choice(ALIASES), "messages": [{"role": "user", "content": text}]}
    models = rng.choices(FALLBACKS, k=rng.randint(0, 4))
    found = chat(text, provider=rng.choice(PROVIDERS), model=rng.choice(MODELS))
    return found | {"models": models} if models else found


async def submit(stack: Stack, rng: random.Random, number: int) -> tuple[str, int]:
    """Submits a job, sometimes twice with the same key. Returns its path and its size."""
    size, native = rng.choice((1, 5, 40)), rng.random() < 0.5
    requests = (request(rng, f"{number}-{index}", native=native) for index in range(size))
    body = b"".join(json.dumps(one).encode() + b"\n" for one in requests)
    query = {"deadline_s": rng.choice((1, 3, 20))} if rng.random() < 0.3 else {}
    headers = NDJSON | ({"Idempotency-Key": f"{number}"} if rng.random() < 0.4 else {})
    location = await upload(stack.api, body, headers=headers, params=query)
    if len(headers) > len(NDJSON):
        assert await upload(stack.api, body, headers=headers, params=query) == location
    if rng.random() < 0.3:
        await stack.api.delete(location)
    return location, size


async def disturb(stack: Stack, rng: random.Random, simulator: Simulator) -> None:
    match rng.randrange(10):
        case 0 | 1:
            outage = Outage(status=rng.choice((503, 401, 500, None)), seconds=1.5)
            simulator.configure(Behaviour(latency_ms=30, outage=outage))
        case 2:
            simulator.configure(Behaviour(latency_ms=30, limit=3))
        case 3:
            simulator.configure(USUAL)
        case 4:
            stack.workers.pop(0).kill()
            await stack.add_worker()
    await asyncio.sleep(rng.random() / 2)  # the moment is a part of the random run


async def check(stack: Stack, location: str, size: int) -> int:
    """Checks that the job completes with one result for each request. Returns the failures."""
    job = await wait_completed(stack.api, location)
    found = await results(stack.api, location)
    assert [item["index"] for item in found] == list(range(size))
    for item in found:
        assert item["error_code"] != "internal_error"
        assert item["attempts"] >= sum(step["attempts"] for step in item.get("route") or ())
        assert "#" not in str(item.get("route"))
    failed: int = job["failed"]
    return failed


@pytest.mark.parametrize("seed", range(examples(1, full=8)))
async def test_every_request_has_one_result_and_nothing_is_left(
    stack: Any,
    redis: ArqRedis,
    keys: Keys,
    tmp_path: Path,
    seed: int,
) -> None:
    rng = random.Random(seed)
    async with Simulator(USUAL) as simulator:
        path = tmp_path / "providers.toml"
        path.write_text(FILE.format(url=simulator.url))
        deployment = await stack(
            workers=3,
            PROVIDERS_FILE=str(path),
            GPU1_API_KEY="k1",
            GPU1_API_KEY_2="k2",
            MAX_RETRIES=str(rng.randint(0, 2)),
            OUTAGE_WAIT_SECONDS="5",
        )
        jobs = []
        for number in range(JOBS):
            jobs.append(await submit(deployment, rng, number))
            await disturb(deployment, rng, simulator)
        simulator.configure(USUAL)
        for location, size in jobs:
            if failed := await check(deployment, location, size):
                retry = await deployment.api.post(f"{location}/retry")
                await check(deployment, retry.headers["location"], failed)
        await eventually(lambda: drained(redis, keys))
