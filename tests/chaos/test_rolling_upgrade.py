"""Tests a rolling upgrade from an earlier commit, and the way back.

The next version is the present code, and adds a field to the job format.
"""

import io
import shutil
import subprocess
import tarfile
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
PACKAGES = ("api", "worker", "shared", "cli")
EARLIER = "02cf6be"  # the first commit with the present layout of Redis: see CHANGELOG.md
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
    directory = tmp_path / "next"
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, directory / package)
    for file, (place, added) in ADDED.items():
        text = (directory / file).read_text()
        assert text.count(place) == 1, file
        (directory / file).write_text(text.replace(place, place + added))
    return directory


@pytest.fixture
def earlier_version(tmp_path: Path) -> Path:
    """Writes the code of `EARLIER`. Returns its directory."""
    archived = subprocess.run(
        ["git", "archive", EARLIER, *PACKAGES],
        cwd=PROJECT,
        capture_output=True,
        check=False,
    )
    if archived.returncode:
        pytest.skip(f"needs a clone with commit {EARLIER}: {archived.stderr.decode().strip()}")
    directory = tmp_path / "earlier"
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
        archive.extractall(directory, filter="data")
    return directory


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
    stack: Start, earlier_version: Path, next_version: Path, *, back: bool
) -> None:
    """Replaces a worker, then the API, then the other worker, under load."""
    versions = (earlier_version, next_version)
    first, second = reversed(versions) if back else versions
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
