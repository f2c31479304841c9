"""Tests the reports of workers and the overview on a real Valkey."""

import random
from datetime import timedelta
from statistics import quantiles
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.claims import commit, rate_limited
from support.stack import chat, eventually

from shared.jobs.store import Store
from shared.monitoring.counters import KEPT_S, STEP_S, Calls, Durations
from shared.monitoring.histogram import quantile_ms
from shared.monitoring.models import Lane, WorkerState
from shared.monitoring.monitor import MAX_LOST_WORKERS, Monitor
from shared.monitoring.reports import Report, ReportWriter
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.item_results import Result
from shared.queue.leases import Settlement
from shared.queue.redis_keys import Keys
from worker.call_metrics import CallMetrics

LIMITS = {"openrouter": 10, "ollama": 3}


@pytest.fixture
def monitor(redis: ArqRedis, keys: Keys) -> Monitor:
    return Monitor(redis, keys)


@pytest.fixture
def reports(redis: ArqRedis, keys: Keys) -> ReportWriter:
    return ReportWriter(redis, keys)


def report(worker_id: str = "w", **running: int) -> Report:
    return Report(worker_id, 5.0, running, LIMITS, LIMITS.keys())


async def lane(monitor: Monitor, name: str = "openrouter") -> Lane:
    return next(lane for lane in (await monitor.overview()).lanes if lane.name == name)


async def job(store: Store, job_id: str, *lanes: str) -> None:
    async with store.staging(job_id) as staging:
        for name in lanes:
            await staging.add(name, b"payload", (None, name, "m"))
        await commit(staging)


async def test_calls_are_counted_by_model_and_code(monitor: Monitor, reports: ReportWriter) -> None:
    counts = CallMetrics()
    for _ in range(3):
        counts.add_call("openrouter", "a model", "", 100)
    counts.add_call("openrouter", "a model", "timeout", 30_000)
    counts.add_call("openrouter", "other", "provider_error", 5)
    counts.add_call("ollama", "m", "", 0.2)
    counts.add_item("openrouter", "a model", Result(prompt_tokens=30, completion_tokens=7))

    await reports.write(report(), reported := counts.unreported())
    counts.mark_reported(reported)

    seen = await lane(monitor)
    assert seen.last_minute.calls == 5
    assert seen.last_minute.errors == {"timeout": 1, "provider_error": 1}
    assert (seen.last_minute.prompt_tokens, seen.last_minute.completion_tokens) == (30, 7)
    assert [(m.model, m.calls, m.errors) for m in seen.models] == [
        ("a model", 4, {"timeout": 1}),
        ("other", 1, {"provider_error": 1}),
    ]
    assert 0 < seen.last_minute.calls_per_s <= 5 / STEP_S
    assert (await lane(monitor, "ollama")).last_minute.calls == 1
    assert seen.last_minute.mean_ms == (3 * 100 + 30_000 + 5) / 5
    assert counts.unreported() == {}


async def test_reports_add_up(monitor: Monitor, reports: ReportWriter) -> None:
    for worker_id in ("a", "b", "a"):
        counts = CallMetrics()
        counts.add_call("ollama", "m", "", 100)
        await reports.write(report(worker_id), counts.unreported())

    assert (await lane(monitor, "ollama")).last_minute.calls == 3
    assert sum(p.lanes["ollama"].calls for p in (await monitor.history()).points) == 3


def test_counts_that_were_not_reported_are_kept() -> None:
    counts = CallMetrics()
    counts.add_call("ollama", "m", "", 100)
    lost = counts.unreported()
    counts.add_call("ollama", "m", "", 100)

    after = counts.unreported()
    counts.mark_reported(after)
    counts.add_call("ollama", "m", "", 100)

    assert [c[Calls("ollama", "", "m")] for c in (lost, after, counts.unreported())] == [1, 2, 1]


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_are_within_a_tenth(seed: int) -> None:
    draw = random.Random(seed)
    counts, latencies = CallMetrics(), [draw.lognormvariate(6, 1.5) for _ in range(5000)]
    for ms in latencies:
        counts.add_call("x", "m", "", ms)
    buckets = {
        counter.bucket: count
        for counter, count in counts.unreported().items()
        if isinstance(counter, Durations)
    }

    exact = quantiles(latencies, n=100)

    for percent in (50, 95, 99):
        assert quantile_ms(buckets, percent / 100) == pytest.approx(exact[percent - 1], rel=0.1)


async def test_without_calls_there_are_no_quantiles(
    monitor: Monitor, reports: ReportWriter, queue: Queue
) -> None:
    await reports.write(report(), {})
    await queue.renew("w", [])

    assert (await lane(monitor)).last_minute.p99_ms is None


async def test_the_overview_shows_the_state_of_a_lane(
    monitor: Monitor, reports: ReportWriter, queue: Queue, store: Store
) -> None:
    await job(store, "old", *["openrouter"] * 4)
    await job(store, "young", "openrouter")
    await reports.write(report(), {})
    capacity = Capacity(Limits({"openrouter": 2}), {}, free_slots=9)
    first, second = (await queue.settle_and_claim([], capacity)).leases

    claimed = await lane(monitor)
    await queue.settle_and_claim([Settlement(first, "retry", delay_s=60)], None)
    because = Settlement(second, "retry", fault=rate_limited(30))
    await queue.settle_and_claim([because], None)
    await queue.settle_and_claim([], capacity)
    paused = await lane(monitor)

    assert (claimed.in_flight, claimed.queued, claimed.limit) == (2, 3, 10)
    assert claimed.oldest_waiting_s is not None
    assert 0 < claimed.oldest_waiting_s < 10
    assert (paused.in_flight, paused.queued, paused.deferred) == (0, 4, 1)
    assert paused.oldest_waiting_s is not None
    at = (await monitor.overview()).at
    assert paused.paused_until is not None
    assert timedelta(seconds=25) < paused.paused_until - at <= timedelta(seconds=30)
    assert paused.paused_because == "answered 429"
    [deployment] = paused.deployments
    assert deployment.name == "openrouter/m"
    assert deployment.state == "paused"
    assert deployment.next_call_at == paused.paused_until
    assert deployment.next_call_at - deployment.since == timedelta(seconds=30)


async def test_the_oldest_waiting_item_is_found(
    monitor: Monitor, queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await job(store, "running", "openrouter")
    await queue.settle_and_claim([], Capacity(Limits({"openrouter": 1}), {}, free_slots=9))
    await job(store, "waits", "openrouter")
    for job_id, ms in (("running", 1000), ("waits", 5000)):
        await redis.hset(keys.job(job_id), "accepted_ms", str(ms))  # type: ignore[misc]

    seen = await lane(monitor)
    at = (await monitor.overview()).at

    assert seen.oldest_waiting_s == pytest.approx(at.timestamp() - 5, abs=5)


async def test_workers_are_alive_silent_lost_or_removed(
    monitor: Monitor, reports: ReportWriter, queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    for worker_id in ("alive", "silent", "lost", "left"):
        await reports.write(report(worker_id, openrouter=2), {})
    for worker_id in ("alive", "silent"):
        await queue.renew(worker_id, [])
    silent = keys.worker_report("silent")
    seen_ms, _, said = (await redis.get(silent)).partition(b" ")
    await redis.set(silent, b"%f %b" % (float(seen_ms) - 7000, said))
    await reports.remove("left")

    overview = await monitor.overview()

    assert {w.worker_id: w.state for w in overview.workers} == {
        "alive": WorkerState.ALIVE,
        "silent": WorkerState.SILENT,
        "lost": WorkerState.LOST,
    }
    alive = next(w for w in overview.workers if w.worker_id == "alive")
    assert (alive.running, alive.limits) == ({"openrouter": 2}, LIMITS)
    assert alive.seen_at - alive.started_at == timedelta(seconds=5)
    assert "Worker lost is lost:" in " ".join(notice.text for notice in overview.notices)


async def test_a_crash_loop_shows_a_limited_number_of_lost_workers(
    monitor: Monitor, reports: ReportWriter, queue: Queue
) -> None:
    await reports.write(report("alive"), {})
    await queue.renew("alive", [])
    for number in range(MAX_LOST_WORKERS + 30):
        await reports.write(report(f"crashed-{number}"), {})

    workers = (await monitor.overview()).workers

    assert len(workers) == MAX_LOST_WORKERS + 1
    assert "alive" in {worker.worker_id for worker in workers}


async def test_all_keys_expire(reports: ReportWriter, redis: ArqRedis, keys: Keys) -> None:
    """The list of workers and the layout version do not expire."""
    counts = CallMetrics()
    counts.add_call("openrouter", "m", "", 100)
    await reports.write(report(), counts.unreported())
    await reports.write_levels()

    found = [key async for key in redis.scan_iter(f"{keys.prefix}*")]

    ttls = {key.decode(): await redis.ttl(key) for key in found}
    del ttls[keys.worker_last_seen], ttls[keys.layout_version]
    assert ttls
    assert all(0 < ttl <= KEPT_S + STEP_S for ttl in ttls.values()), ttls


async def test_a_worker_that_was_last_seen_an_hour_ago_is_removed(
    reports: ReportWriter, redis: ArqRedis, keys: Keys
) -> None:
    await reports.write(report("old"), {})
    seen_ms = await redis.zscore(keys.worker_last_seen, "old")
    assert seen_ms is not None
    await redis.zadd(keys.worker_last_seen, {"old": seen_ms - KEPT_S * 1000 - 1})

    await reports.write(report("new"), {})

    assert await redis.zrange(keys.worker_last_seen, 0, -1) == [b"new"]


async def test_the_history_has_running_and_queued_items(
    monitor: Monitor, reports: ReportWriter, store: Store
) -> None:
    await job(store, "a", *["ollama"] * 7)
    await reports.write_levels()

    points = (await monitor.history()).points

    assert {p.lanes["ollama"].queued for p in points} == {7}
    assert all("openrouter" not in p.lanes for p in points)


async def names(monitor: Monitor) -> list[str]:
    return [lane.name for lane in (await monitor.overview()).lanes]


async def test_the_overview_shows_no_idle_lane_that_no_worker_has_configured(
    monitor: Monitor, reports: ReportWriter, queue: Queue, store: Store
) -> None:
    limits = {"openrouter": 10, "idle": 10, "active": 10, "called": 10, "webhooks": 10}
    shown = {"openrouter": 10, "active": 10, "called": 10, "webhooks": 10}
    await job(store, "job", "active")
    counts = CallMetrics()
    counts.add_call("called", "m", "", 100)
    await reports.write(
        Report("w", 5.0, {}, limits, ["openrouter", "webhooks"]), counts.unreported()
    )
    await queue.renew("w", [])

    overview = await monitor.overview()

    assert {lane.name: lane.limit for lane in overview.lanes} == shown
    assert [lane.name for lane in overview.lanes] == list(shown)
    assert [worker.limits for worker in overview.workers] == [shown]


async def test_without_a_worker_the_overview_shows_the_active_lanes_and_the_webhooks(
    monitor: Monitor, reports: ReportWriter, store: Store
) -> None:
    await reports.write(report("lost"), {})
    await job(store, "job", "vllm", "gpu1")

    assert await names(monitor) == ["gpu1", "vllm", "webhooks"]


async def test_a_lane_is_shown_for_an_hour_after_its_last_call(
    monitor: Monitor, reports: ReportWriter, redis: ArqRedis, keys: Keys
) -> None:
    counts = CallMetrics()
    counts.add_call("groq", "m", "", 100)
    await reports.write(report(), counts.unreported())
    called_ms = await redis.zscore(keys.called_lanes, "groq")
    assert called_ms is not None
    await redis.zadd(keys.called_lanes, {"groq": called_ms - KEPT_S * 1000 + 60_000})
    await reports.write_levels()
    within_the_hour = await names(monitor)
    await redis.zadd(keys.called_lanes, {"groq": called_ms - KEPT_S * 1000 - 1})
    await reports.write_levels()

    assert within_the_hour == ["groq", "webhooks"]
    assert await names(monitor) == ["webhooks"]


async def test_a_lane_that_no_worker_serves_gets_a_notice_while_it_has_items(
    monitor: Monitor, reports: ReportWriter, queue: Queue, store: Store
) -> None:
    await reports.write(report(), {})
    await queue.renew("w", [])
    await job(store, "job", "gpu1", "gpu1")
    waiting = await monitor.overview()
    await store.cancel("job")
    cancelled = await monitor.overview()

    [notice] = waiting.notices
    assert notice.lane == "gpu1"
    assert notice.text == (
        "gpu1: 2 requests are waiting, but no worker knows this provider. Give the workers the same"
        " PROVIDERS_FILE as the API and restart them, or cancel the jobs."
    )
    assert "gpu1" in {lane.name for lane in waiting.lanes}
    assert cancelled.notices == []
    assert "gpu1" not in {lane.name for lane in cancelled.lanes}


async def test_the_history_has_no_levels_of_idle_lanes(
    reports: ReportWriter, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await reports.write_levels()
    await job(store, "job", "ollama")
    await reports.write(report(), {})

    fields = [
        field.decode()
        async for key in redis.scan_iter(keys.history("*"))
        for field in await redis.hkeys(key)  # type: ignore[misc]
    ]
    assert sorted(fields) == ["ollama in_flight", "ollama queued"]


@pytest.mark.usefixtures("worker")
async def test_overview_over_http(api: httpx.AsyncClient) -> None:
    requests = [chat("a"), chat("b", model="sim-404"), chat("c", provider="ollama")]
    await api.post("/batch", json={"requests": requests})

    async def reported() -> bool:
        lanes: list[dict[str, Any]] = (await api.get("/overview")).json()["lanes"]
        calls: list[int] = [lane["last_minute"]["calls"] for lane in lanes]
        return sum(calls) == 3

    await eventually(reported)
    overview = (await api.get("/overview")).json()
    history = (await api.get("/history")).json()

    openrouter = overview["lanes"][0]
    assert openrouter["last_minute"]["errors"] == {"model_not_found": 1}
    assert [w["state"] for w in overview["workers"]] == ["alive"]
    assert sum(p["lanes"].get("openrouter", {}).get("calls", 0) for p in history["points"]) == 2
