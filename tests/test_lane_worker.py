"""Tests which items a worker runs in its slots, and which calls it stops."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from arq.connections import ArqRedis
from arq.worker import func
from support.claims import POLICY, commit
from support.in_process import LEASE_S, running_worker
from support.results import whole_job
from support.stack import eventually
from support.worker_jobs import calls_in_flight, finished, submit

from cli.simulator import Behaviour, Simulator
from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.memory_budget import MemoryBudget
from shared.models import JobStatus
from shared.monitoring.reports import ReportWriter
from shared.queue.capacity import Limits
from shared.queue.claims import Queue
from shared.queue.codec import encode_payload
from shared.queue.item_results import Result
from shared.queue.redis_keys import Keys
from shared.settings import WORKER_MEMORY_BYTES, ProviderSettings, Settings
from worker import payload_memory
from worker.lane_worker import LaneWorker
from worker.metrics import WorkerMetrics
from worker.outcomes import Attempt, Finished, TaskOutcome


@pytest.fixture
def jobs(store: Store) -> Jobs:
    return Jobs(store, POLICY)


@pytest.fixture
def slow(simulator: Simulator) -> Simulator:
    """Returns a simulator whose calls take a minute until the test configures it."""
    simulator.configure(Behaviour(latency_ms=60_000))
    return simulator


async def test_a_worker_claims_no_more_than_its_slots(
    jobs: Jobs, slow: Simulator, settings: Settings, providers: dict[str, ProviderSettings]
) -> None:
    """One of the five slots is reserved for webhooks."""
    settings = settings.model_copy(update={"worker_max_jobs": 5})
    await submit(jobs, 9)
    await submit(jobs, 9, provider="ollama")
    async with running_worker(settings, providers):
        await calls_in_flight(slow, 4)

        per_provider = slow.stats()["by_dialect"]

    assert slow.stats()["peak"] == 4
    assert all(per_provider[dialect]["peak"] >= 1 for dialect in ("openai", "ollama"))


@pytest.mark.usefixtures("worker")
async def test_a_cancelled_jobs_calls_are_stopped(jobs: Jobs, slow: Simulator) -> None:
    job_id = await submit(jobs, 20)
    await calls_in_flight(slow, 10)

    status = whole_job(await jobs.cancel(job_id))
    await calls_in_flight(slow, 0)

    assert (status.status, status.failed) == (JobStatus.CANCELLED, 20)
    assert slow.stats()["aborted"] == 10


@pytest.mark.usefixtures("worker")
async def test_a_call_of_a_completed_job_is_stopped_without_a_message(
    jobs: Jobs, slow: Simulator, redis: ArqRedis, keys: Keys
) -> None:
    job_id = await submit(jobs, 1)
    await calls_in_flight(slow, 1)

    await redis.hset(keys.job(job_id), "finished_ms", "1")  # type: ignore[misc]

    await calls_in_flight(slow, 0)


@pytest.mark.usefixtures("worker")
async def test_a_cancelled_call_frees_its_slot_for_the_next(jobs: Jobs, slow: Simulator) -> None:
    blocked = await submit(jobs, 10)
    await calls_in_flight(slow, 10)
    slow.configure(Behaviour())
    waiting = await submit(jobs, 5)

    await jobs.cancel(blocked)

    assert (await finished(jobs, waiting)).successful == 5
    assert slow.stats()["peak"] == 10


@pytest.mark.parametrize(
    "payload", [b"not JSON", b'{"f":"unknown","a":[],"k":{},"t":null,"et":0}', b'{"f":1}']
)
@pytest.mark.usefixtures("worker")
async def test_an_item_that_cannot_run_fails(store: Store, jobs: Jobs, payload: bytes) -> None:
    async with store.staging("job") as staging:
        await staging.add("openrouter", payload, (None, "openrouter", "m"))
        await commit(staging)

    status = await finished(jobs, "job")

    [response] = status.responses or [None]
    assert response is not None
    assert (response.error_code, response.content) == ("internal_error", "")


async def test_large_requests_are_claimed_as_their_size_allows(
    jobs: Jobs,
    slow: Simulator,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """21 requests have room at once. A quarter of the slots is kept for other lanes."""
    monkeypatch.setattr(payload_memory, "MAX_PAYLOAD_BYTES", 850_000)
    monkeypatch.setattr(payload_memory, "_FIRST_PAYLOAD_BYTES", 850_000 // 16)
    settings = settings.model_copy(update={"max_concurrent_requests": 100})
    job_id = await submit(jobs, 40, text="x" * 40_000)
    async with running_worker(settings, providers):
        await calls_in_flight(slow, 16)
        slow.configure(Behaviour(latency_ms=100))
        status = await finished(jobs, job_id)

    assert status.successful == 40
    assert slow.stats()["peak"] <= 21


@asynccontextmanager
async def worker_of_25_lanes(
    redis: ArqRedis, queue: Queue, keys: Keys, call: Callable[..., Awaitable[TaskOutcome]]
) -> AsyncIterator[None]:
    """Runs a worker that runs three calls at once. `call` is the task of every item."""
    lanes = [f"lane-{number}" for number in range(25)]
    worker = LaneWorker(
        queue=queue,
        reports=ReportWriter(redis, keys),
        metrics=WorkerMetrics(),
        memory=MemoryBudget(WORKER_MEMORY_BYTES),
        keys=keys,
        worker_id="worker",
        limits=Limits(dict.fromkeys(lanes, 10)),
        configured=lanes,
        lease_s=LEASE_S,
        functions=[func(cast("Any", call), name="call")],
        redis_pool=redis,
        handle_signals=False,
        max_jobs=3,
        job_completion_wait=0.01,
    )
    running = asyncio.create_task(worker.main())
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_one_dead_lane_of_25_delays_nobody_in_a_worker_of_three_slots(
    store: Store, redis: ArqRedis, queue: Queue, keys: Keys, jobs: Jobs
) -> None:
    dead, hanging = "lane-7", Counter[str]()

    async def call(_ctx: object, attempt: Attempt, lane: str) -> TaskOutcome:
        if lane == dead:
            hanging[attempt.item_id] += 1
            await asyncio.Event().wait()
        return Finished(Result(content=lane))

    async def accept(job_id: str, lane: str, count: int) -> None:
        async with store.staging(job_id) as staging:
            for _ in range(count):
                await staging.add(lane, encode_payload("call", lane), (None, lane, "m"))
            await commit(staging)

    async def hangs() -> bool:
        return len(hanging) == 2  # a third call would leave no slot to the other lanes

    await accept("dead", dead, 50)
    async with worker_of_25_lanes(redis, queue, keys, call):
        await eventually(hangs)
        others = [f"lane-{number}" for number in range(25) if f"lane-{number}" != dead]
        for lane in others:
            await accept(lane, lane, 4)

        for lane in others:
            assert (await finished(jobs, lane)).successful == 4

        assert len(hanging) == 2
        assert not (await jobs.get("dead")).has_ended
