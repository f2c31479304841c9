"""Tests the metrics as a real Prometheus scrapes them."""

import asyncio
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from arq.connections import ArqRedis
from arq.worker import func
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.authentication import ANN, API_KEYS
from support.claims import accept, claim, settle
from support.stack import Start, chat, eventually, free_port

from shared.jobs.store import Store
from shared.memory_budget import MemoryBudget
from shared.monitoring.reports import ReportWriter
from shared.queue.capacity import Limits
from shared.queue.claims import Queue
from shared.queue.codec import CALL_PROVIDER
from shared.queue.item_results import Result
from shared.queue.leases import Fault, Settlement
from shared.queue.redis_keys import Keys
from shared.queue.verdict import Verdict
from shared.settings import WORKER_MEMORY_BYTES
from shared.version import VERSION
from worker.call_metrics import CallMetrics
from worker.lane_worker import LaneWorker
from worker.metrics import WorkerMetrics
from worker.tasks import call_provider

PROJECT = Path(__file__).parent.parent
OBSERVABILITY = PROJECT / "observability"
NEEDS_PROMETHEUS = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="Prometheus (Debian's package) is not installed"
)


@asynccontextmanager
async def prometheus(
    directory: Path, jobs: list[dict[str, Any]]
) -> AsyncIterator[httpx.AsyncClient]:
    """Runs Prometheus with the project's alert rules and the given scrape configs in `jobs`."""
    config = {
        "global": {"scrape_interval": "250ms", "evaluation_interval": "250ms"},
        "rule_files": [str(OBSERVABILITY / "alerts.yml")],
        "scrape_configs": jobs,
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))  # YAML is a superset of JSON
    address = f"127.0.0.1:{free_port()}"
    with (directory / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={address}",
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            await eventually(lambda: answers(client, "/-/ready"))
            yield client
    finally:
        process.terminate()
        await process.wait()


async def answers(client: httpx.AsyncClient, path: str) -> bool:
    try:
        return (await client.get(path)).is_success
    except httpx.TransportError:
        return False


async def value(client: httpx.AsyncClient, query: str) -> dict[str, float]:
    """Returns the result of a query: values of the labels, joined by spaces → number."""
    answer = (await client.get("/api/v1/query", params={"query": query})).json()
    assert answer["status"] == "success", answer
    return {
        " ".join(text for name, text in sorted(one["metric"].items()) if name != "__name__"): float(
            one["value"][1]
        )
        for one in answer["data"]["result"]
    }


def expressions() -> list[str]:
    dashboard = json.loads((OBSERVABILITY / "grafana" / "orchestrator.json").read_text())
    rules = (OBSERVABILITY / "alerts.yml").read_text()
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return shown + re.findall(r"expr: (?:>-\n)?((?:.*\n)(?: {10}\S.*\n)*)", rules)


@NEEDS_PROMETHEUS
async def test_a_real_prometheus_sees_the_stack(stack: Start, tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    deployment = await stack(workers=0, key=ANN, API_KEYS=API_KEYS, MAX_RETRIES="1")
    for port in ports:
        await deployment.add_worker(WORKER_METRICS_PORT=str(port))
    await deployment.ready(2)
    jobs: list[dict[str, Any]] = [
        {
            "job_name": "api",
            "authorization": {"credentials": ANN},
            "static_configs": [{"targets": [deployment.api.base_url.netloc.decode()]}],
        },
        {
            "job_name": "worker",
            "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
        },
    ]
    requests = [
        chat(f"planted-prompt {n}", model="sim-status-400" if n % 5 == 0 else "m")
        for n in range(50)
    ]
    requests += [chat("planted-prompt", provider="ollama", model="sim-latency-60000")]
    async with prometheus(tmp_path, jobs) as client:
        job = await deployment.batch(requests, params={"mode": "async"})

        async def ended() -> bool:
            items = await value(
                client, "sum by (provider, model, outcome) (orchestrator_items_total)"
            )
            return items == {
                "m answered openrouter": 40,
                "sim-status-400 invalid_request openrouter": 10,
            }

        await eventually(ended)

        async def seen() -> bool:
            in_flight = await value(client, "max by (provider) (orchestrator_lane_in_flight)")
            return in_flight == {"openrouter": 0, "ollama": 1, "webhooks": 0}

        await eventually(seen)

        async def scraped() -> bool:
            return await value(client, "sum by (job) (up)") == {"api": 1, "worker": 2}

        await eventually(scraped)
        assert await value(client, "sum by (outcome) (orchestrator_attempts_total)") == {
            "answered": 40,
            "invalid_request": 10,
        }
        calls = "gen_ai_client_operation_duration_seconds_count"
        by_error = f"sum by (gen_ai_provider_name, error_type) ({calls})"
        assert await value(client, by_error) == {
            "openrouter": 40,
            "invalid_request openrouter": 10,
        }
        tokens = "sum by (gen_ai_token_type) (gen_ai_client_token_usage_sum)"
        assert set(await value(client, tokens)) == {"input", "output"}
        assert await value(client, "sum(orchestrator_queue_time_seconds_count)") == {"": 50}
        assert await value(client, "sum(orchestrator_worker_in_flight)") == {"": 1}
        limits = await value(client, "max by (provider) (orchestrator_lane_limit)")
        assert limits == {"openrouter": 10, "ollama": 10, "webhooks": 20}
        assert (await value(client, "sum(orchestrator_claimed_items_total)"))[""] >= 51
        assert await value(client, "max by (state) (orchestrator_workers)") == {
            "alive": 2,
            "silent": 0,
            "lost": 0,
        }
        assert await value(client, "min(orchestrator_redis_up)") == {"": 1}
        accepted = 'http_server_request_duration_seconds_count{http_route="/batch"}'
        by_status = f"sum by (http_response_status_code) ({accepted})"
        assert list(await value(client, by_status)) == ["202"]
        # Every metric that the dashboard and the rules use exists.
        known = set((await client.get("/api/v1/label/__name__/values")).json()["data"])
        for expression in expressions():
            await value(client, expression)
            names = set(re.findall(r"\b(?:orchestrator|gen_ai_client|http_server)_\w+", expression))
            names = {name for name in names if not re.search(r"_(name|type|model|route)$", name)}
            assert names, expression
            assert names <= known, expression

        deployment.workers[0].kill()

        async def alarmed() -> bool:
            alerts = (await client.get("/api/v1/alerts")).json()["data"]["alerts"]
            firing = {
                alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"
            }
            return "OrchestratorWorkerLost" in firing

        await eventually(alarmed)
        await deployment.api.delete(job.headers["location"])
        texts = [await client.get("/api/v1/series", params={"match[]": '{job=~".+"}'})]
    assert "planted" not in texts[0].text


@NEEDS_PROMETHEUS
@pytest.mark.parametrize(
    "argv",
    [
        ("check", "rules", "observability/alerts.yml"),
        ("check", "config", "--syntax-only", "observability/prometheus.yml"),
    ],
)
async def test_promtool_finds_nothing_wrong(argv: tuple[str, ...]) -> None:
    process = await asyncio.create_subprocess_exec("promtool", *argv, cwd=PROJECT)
    assert await process.wait() == 0


@NEEDS_PROMETHEUS
async def test_each_alert_fires_for_its_fault_only(tmp_path: Path) -> None:
    for file in (OBSERVABILITY / "alerts.yml", PROJECT / "tests" / "alerts_test.yml"):
        shutil.copy(file, tmp_path)

    process = await asyncio.create_subprocess_exec(
        "promtool", "test", "rules", "alerts_test.yml", cwd=tmp_path
    )

    assert await process.wait() == 0


@NEEDS_PROMETHEUS
async def test_every_alert_is_tested() -> None:
    name = re.compile(r"alert(?:name)?: (\w+)")
    rules = set(name.findall((OBSERVABILITY / "alerts.yml").read_text()))
    tested = name.findall((PROJECT / "tests" / "alerts_test.yml").read_text())
    assert rules == set(tested)
    assert all(tested.count(alert) == 2 for alert in rules)


async def test_openmetrics_is_returned_if_the_client_accepts_it(api: httpx.AsyncClient) -> None:
    await api.get("/health")

    answer = await api.get(
        "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
    )

    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name for family in openmetrics(answer.text)}  # type: ignore[no-untyped-call]
    assert {"orchestrator_lane_queued", "http_server_request_duration_seconds"} <= families


async def test_each_deployment_that_is_not_healthy_has_a_state(
    api: httpx.AsyncClient, queue: Queue, store: Store
) -> None:
    await accept(store, "job", ["openai", "openrouter", "ollama"])
    leases = await claim(queue, openai=1, openrouter=1, ollama=1)
    faults = {
        "openai": Fault(Verdict.UNREACHABLE, "could not be reached", "connection_error"),
        "openrouter": Fault(Verdict.RATE_LIMITED, "answered 429", "rate_limited", wait_s=60),
    }
    failed = [
        Settlement(lease, "retry", fault=faults[lease.lane])
        for lease in leases
        if lease.lane in faults
    ]
    await settle(queue, *failed)

    text = (await api.get("/metrics")).text

    states = [
        (sample.value, *map(sample.labels.get, ("provider", "deployment", "state", "verdict")))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "orchestrator_deployment_state"
    ]
    assert sorted(states) == [
        (1, "ollama", "ollama", "healthy", ""),
        (1, "openai", "openai", "probing", "unreachable"),
        (1, "openrouter", "openrouter", "healthy", ""),
        (1, "openrouter", "openrouter/m", "paused", "rate_limited"),
    ]


async def test_the_version_is_a_metric(api: httpx.AsyncClient) -> None:
    lines = (await api.get("/metrics")).text.splitlines()

    assert f'orchestrator_build_info{{version="{VERSION}"}} 1.0' in lines


async def test_requests_are_counted_by_route_not_by_path(api: httpx.AsyncClient) -> None:
    for job in ("a", "b"):
        await api.get(f"/jobs/{job}")
        await api.get(f"/nowhere/{job}")
    await api.request("BREW", "/batch")

    lines = (await api.get("/metrics")).text.splitlines()

    counted = {
        line for line in lines if line.startswith("http_server_request_duration_seconds_count")
    }
    labels = 'http_request_method="{}",http_response_status_code="{}",http_route="{}"'
    assert {
        f"http_server_request_duration_seconds_count{{{labels.format(*row)}}} {count}"
        for *row, count in (
            ("GET", 404, "/jobs/{job_id}", "2.0"),
            ("GET", 404, "", "2.0"),
            ("_OTHER", 405, "/batch", "1.0"),
        )
    } <= counted


def test_any_name_of_a_model_can_be_a_label() -> None:
    metrics = WorkerMetrics()
    nasty = 'a"b\\c\nd é 😀 {x="y"}'
    metrics.calls.add_call("ollama", nasty, "", 1)
    metrics.calls.add_item("ollama", nasty, Result(content="x"))

    text = generate_latest(metrics.registry).decode()

    models = {
        sample.labels.get("model")
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert nasty in models


@pytest.mark.parametrize("ms", [0, 0.3, 5, 10, 10.001, 19, 20, 20.1, 1000, 81_920, 1e7])
def test_a_duration_is_in_the_right_buckets(ms: float) -> None:
    calls = CallMetrics()
    calls.add_call("ollama", "m", "", ms)

    [buckets] = [
        {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
        for family in calls.collect()
        if "duration" in family.name
    ]

    expected = {le: float(float(le) >= ms / 1000) for le in buckets}
    assert buckets == expected
    assert len(buckets) == 15


@pytest.mark.parametrize("tokens", [0, 1, 2, 4, 5, 16, 17, 64, 1000, 4**13, 4**13 + 1])
def test_tokens_are_in_the_right_buckets(tokens: int) -> None:
    calls = CallMetrics()
    calls.add_item("ollama", "m", Result(content="x", prompt_tokens=tokens))

    buckets = {
        s.labels["le"]: s.value
        for family in calls.collect()
        for s in family.samples
        if s.name.endswith("usage_bucket") and "input" in s.labels.values()
    }

    assert buckets == {le: float(float(le) >= tokens) for le in buckets}


def test_idle_lanes_have_no_series(redis: ArqRedis, keys: Keys) -> None:
    metrics = WorkerMetrics()
    limits = {f"idle-{number}": 10 for number in range(20)} | {"openrouter": 7, "webhooks": 10}
    LaneWorker(
        queue=Queue(redis, keys, lease_s=1),
        reports=ReportWriter(redis, keys),
        metrics=metrics,
        memory=MemoryBudget(WORKER_MEMORY_BYTES),
        keys=keys,
        worker_id="worker",
        limits=Limits(limits),
        configured={"openrouter", "webhooks"},
        lease_s=1,
        functions=[func(cast("Any", call_provider), name=CALL_PROVIDER)],
        redis_pool=redis,
        handle_signals=False,
    )

    series = {
        (sample.name, sample.labels["provider"]): sample.value
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        for sample in family.samples
        if "provider" in sample.labels
    }

    assert series == {
        ("orchestrator_worker_in_flight", "openrouter"): 0,
        ("orchestrator_worker_in_flight", "webhooks"): 0,
        ("orchestrator_worker_limit", "openrouter"): 7,
        ("orchestrator_worker_limit", "webhooks"): 10,
    }


async def test_a_worker_stops_if_its_metrics_port_is_in_use(stack: Start) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        deployment = await stack(workers=0)
        worker = await deployment.add_worker(WORKER_METRICS_PORT=str(taken.getsockname()[1]))

        async with asyncio.timeout(30):
            assert await worker.wait() != 0
