"""Tests a rolling upgrade to a version that adds a field to the job format, and the way back."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.invariants import verify
from support.load import Load
from support.stack import Stack, Start

from shared.redis.client import connect

pytestmark = pytest.mark.chaos

LIMIT = 10
SETTINGS = {"MAX_CONCURRENT_REQUESTS": str(LIMIT), "LEASE_SECONDS": "15", "WORKER_MAX_JOBS": "8"}
PROJECT = Path(__file__).parents[2]
# The next version adds a field to requests and a field to results. By file: the text after which it
# inserts code, and the inserted code.
ADDED = {
    "shared/jobs/new_item.py": (
        "    defaults = row.fills_defaults\n",
        '    chat["top_p"] = 0.5\n',
    ),
    "shared/queue/item_results.py": (
        '            "attempts": self.attempts,\n',
        '            "cost": 0.5,\n',
    ),
}


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """Writes the next version of the project. Returns its directory."""
    for package in ("api", "worker", "shared", "cli"):
        shutil.copytree(PROJECT / package, tmp_path / package)
    for file, (place, added) in ADDED.items():
        text = (tmp_path / file).read_text()
        assert text.count(place) == 1, file
        (tmp_path / file).write_text(text.replace(place, place + added))
    return tmp_path


async def costs(stack: Stack, load: Load) -> Counter[float | None]:
    """Returns the number of stored results by the value of the field that the next version adds."""
    redis = connect(stack.redis_url)
    try:
        stored = [
            orjson.loads(result.partition(b" ")[2])
            for job_id in load.jobs
            for result in await redis.hvals(stack.keys.results(job_id))  # type: ignore[misc]
        ]
    finally:
        await redis.aclose()
    return Counter(result.get("cost") for result in stored)


async def sent(stack: Stack) -> dict[str, Any]:
    """Returns the body of the last call that the simulated OpenRouter has received."""
    body: dict[str, Any] = (await stack.simulator.get("/_sim/last")).json()["openai"]["body"]
    return body


@pytest.mark.parametrize("back", [False, True])
async def test_versions_work_beside_each_other(
    stack: Start, next_version: Path, *, back: bool
) -> None:
    """Replaces a worker, then the API, then the other worker, under load."""
    first, second = (next_version, PROJECT) if back else (PROJECT, next_version)
    deployment = await stack(workers=2, code=first, **SETTINGS)
    await deployment.simulate(latency_ms=200, latency_spread_ms=100)
    load = Load(deployment)
    old_workers, old_api = list(deployment.workers), deployment.api_process
    async with load.steady():
        assert ("top_p" in await sent(deployment)) is back
        deployment.code = second
        for worker in old_workers:
            await deployment.add_worker()
            await deployment.ready(3)
            await load.more(3)
            worker.terminate()
            assert await worker.wait() == 0
            if worker is old_workers[0]:
                await deployment.start_api()
                await deployment.ready(2)
                old_api.terminate()
                await load.more(3)
        await load.more(6)
        assert ("top_p" in await sent(deployment)) is not back

    calls = await verify(deployment, load, limit=LIMIT)
    assert {r["attempts"] for job in load.answers.values() for r in job["responses"]} == {1}
    assert len(calls) == sum(map(len, load.jobs.values()))
    assert (await costs(deployment, load)).keys() == {None, 0.5}
