"""Tests the slots and leases of a worker, and items that cannot run."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from arq.connections import ArqRedis
from arq.worker import func
from support.claims import POLICY, commit
from support.in_process import LEASE_S, running_worker
from support.results import whole_job
from support.stack import eventually, queued

from cli.simulator import Behaviour, Simulator
from shared.jobs.new_item import native_items
from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.jobs.submission import Submission
from shared.memory_budget import MemoryBudget
from shared.models import Job, JobStatus, LLMRequest, Message, Role
from shared.monitoring.reports import ReportWriter
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Claimed, Queue
from shared.queue.codec import encode_payload
from shared.queue.item_results import Result
from shared.queue.leases import Settlement
from shared.queue.redis_keys import Keys
from shared.settings import WORKER_MEMORY_BYTES, ProviderSettings, Settings
from worker import payload_memory
from worker.lane_worker import LaneWorker
from worker.metrics import WorkerMetrics
from worker.outcomes import Attempt, Finished, TaskOutcome

SUBMISSION = Submission()


@pytest.fixture
def jobs(store: Store) -> Jobs:
    return Jobs(store, POLICY)


async def submit(
    jobs: Jobs, count: int, *, provider: str = "openrouter", model: str = "m", text: str = ""
) -> str:
    job_id = jobs.new_id()
    requests = [
        LLMRequest(
            provider=provider,
            model=model,
            messages=[Message(role=Role.USER, content=f"{job_id} {index}{text}")],
        )
        for index in range(count)
    ]
    return await jobs.submit(job_id, native_items(requests), SUBMISSION)


async def finished(jobs: Jobs, job_id: str) -> Job:
    async def is_finished() -> bool:
        return (await jobs.get(job_id)).has_ended

    await eventually(is_finished)
    return whole_job(await jobs.get(job_id))


async def calls_in_flight(simulator: Simulator, count: int) -> None:
    async def reached() -> bool:
        return bool(simulator.stats()["in_flight"] == count)

    await eventually(reached, deadline_s=15)  # a call would time out after 30 s


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
async def test_leases_are_renewed_for_as_long_as_calls_run(jobs: Jobs, slow: Simulator) -> None:
    slow.configure(Behaviour(latency_ms=int(LEASE_S * 1500)))
    status = await finished(jobs, await submit(jobs, 3))

    assert (status.successful, slow.stats()["total"]) == (3, 3)


@pytest.mark.usefixtures("worker")
async def test_a_call_stops_before_its_lease_expires_when_redis_is_unavailable(
    jobs: Jobs, slow: Simulator, redis: ArqRedis
) -> None:
    job_id = await submit(jobs, 1)
    await calls_in_flight(slow, 1)
    frozen_at = time.monotonic()
    await redis.client_pause(int(LEASE_S * 1500))

    await calls_in_flight(slow, 0)

    assert time.monotonic() - frozen_at < LEASE_S
    slow.configure(Behaviour())
    assert (await finished(jobs, job_id)).successful == 1


@pytest.mark.usefixtures("worker")
async def test_an_answer_that_came_while_redis_was_unavailable_is_kept(
    jobs: Jobs, slow: Simulator, redis: ArqRedis
) -> None:
    slow.configure(Behaviour(latency_ms=200))
    job_id = await submit(jobs, 1)
    await calls_in_flight(slow, 1)
    await redis.client_pause(int(LEASE_S * 500))

    status = await finished(jobs, job_id)

    assert (status.successful, slow.stats()["total"]) == (1, 1)


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


async def test_leases_that_a_new_redis_does_not_know_are_lost_at_once(
    jobs: Jobs,
    slow: Simulator,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    keys: Keys,
) -> None:
    settings = settings.model_copy(update={"lease_seconds": 600})  # renewals are rare, too
    async with running_worker(settings, providers):
        await submit(jobs, 1)
        await calls_in_flight(slow, 1)
        await redis.delete(keys.leases("openrouter"))

        await redis.client_kill_filter(_type="pubsub")

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


async def test_an_answer_that_is_stored_late_keeps_its_lease(
    jobs: Jobs,
    simulator: Simulator,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the lease expired, the provider would be called and paid again."""
    settle = Queue.settle_and_claim

    async def settle_late(
        queue: Queue, settlements: Sequence[Settlement], capacity: Capacity | None
    ) -> Claimed:
        """Waits until the leases have been renewed for more than their whole time."""
        for waiting in settlements:
            key, lease = keys.leases(waiting.lease.lane), waiting.lease.lease_id
            first_ms = await redis.zscore(key, lease) or 0

            async def is_renewed(key: str = key, lease: str = lease, ms: float = first_ms) -> bool:
                return (await redis.zscore(key, lease) or 0) > ms + 1.5 * LEASE_S * 1000

            await eventually(is_renewed)
        return await settle(queue, settlements, capacity)

    monkeypatch.setattr(Queue, "settle_and_claim", settle_late)
    async with running_worker(settings, providers):
        status = await finished(jobs, await submit(jobs, 1))

    assert (status.successful, simulator.stats()["total"]) == (1, 1)


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


async def test_a_stopping_worker_releases_its_items_at_once(
    jobs: Jobs,
    slow: Simulator,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    keys: Keys,
) -> None:
    job_id = await submit(jobs, 3)
    async with running_worker(settings, providers):
        await calls_in_flight(slow, 3)

    assert await redis.zcard(keys.leases("openrouter")) == 0
    assert await queued(redis, keys) == 3
    assert await redis.zcard(keys.workers) == 0
    slow.configure(Behaviour())
    async with running_worker(settings, providers):
        status = await finished(jobs, job_id)
    assert [response.attempts for response in status.responses or () if response] == [1, 1, 1]


async def test_items_that_are_claimed_while_the_worker_stops_are_released(
    jobs: Jobs,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange, handed_out = Queue.settle_and_claim, asyncio.Event()

    async def reply_on_its_way(
        queue: Queue, settlements: Sequence[Settlement], capacity: Capacity | None
    ) -> Claimed:
        claimed = await exchange(queue, settlements, capacity)
        if claimed.leases:
            handed_out.set()
            await asyncio.sleep(0.1)
        return claimed

    monkeypatch.setattr(Queue, "settle_and_claim", reply_on_its_way)
    async with running_worker(settings, providers):
        await submit(jobs, 3)
        async with asyncio.timeout(30):
            await handed_out.wait()

    assert await redis.zcard(keys.leases("openrouter")) == 0
    assert await queued(redis, keys) == 3


@pytest.mark.parametrize("late_s", [0.725 * 3, 3])  # a call must stop after 2.4 s
async def test_a_late_claim_costs_no_call(
    jobs: Jobs,
    simulator: Simulator,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    monkeypatch: pytest.MonkeyPatch,
    late_s: float,
) -> None:
    """The claim is late, as if Redis was slow or the process was suspended.

    If the lease has time left, the call starts and the lease is renewed at once. Otherwise no call
    starts.
    """
    exchange, waited = Queue.settle_and_claim, asyncio.Event()

    async def late(
        queue: Queue, settlements: Sequence[Settlement], capacity: Capacity | None
    ) -> Claimed:
        claimed = await exchange(queue, settlements, capacity)
        if claimed.leases and not waited.is_set():
            await asyncio.sleep(late_s)
            assert simulator.stats()["total"] == 0
            waited.set()
        return claimed

    monkeypatch.setattr(Queue, "settle_and_claim", late)
    simulator.configure(Behaviour(latency_ms=700))
    settings = settings.model_copy(update={"lease_seconds": 3})
    job_id = await submit(jobs, 3)
    async with running_worker(settings, providers):
        assert (await finished(jobs, job_id)).successful == 3

    assert waited.is_set()
    assert simulator.stats()["total"] == 3
