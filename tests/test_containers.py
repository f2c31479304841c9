"""Tests the images and the compose file on a Docker engine, and the queue on a plain Redis."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.claims import POLICY
from support.compose import (
    BUILD_S,
    ENV_EXAMPLE,
    LEASE_S,
    LIMIT,
    PYTHON_IMAGE,
    REDIS_IMAGE,
    REPLICAS,
    SETTINGS,
    Compose,
    compose_command,
    docker,
    has_workers,
    inspect,
    require,
    run,
    with_simulator,
)
from support.documents import PROJECT
from support.results import whole_job
from support.stack import Stack, chat, eventually
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from shared.jobs.new_item import native_items
from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.jobs.submission import Submission
from shared.models import BatchLLMRequest
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.item_results import Result
from shared.queue.leases import Settlement
from shared.queue.redis_keys import Keys
from shared.redis.client import connect
from shared.settings import ProviderSettings, Settings, load_provider_settings


@pytest.fixture(scope="module")
def compose(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compose]:
    require(PYTHON_IMAGE)
    require(REDIS_IMAGE)
    directory = tmp_path_factory.mktemp("compose")
    override, env_file = directory / "override.json", directory / "env"
    override.write_text(json.dumps(with_simulator()))
    settings = {
        "API_PORT": "0",  # Docker chooses a free port
        "WORKER_REPLICAS": str(REPLICAS),
        "OPENROUTER_API_KEY": "test-key",
        "OPENROUTER_BASE_URL": "http://simulator:9000/api/v1",
        "OLLAMA_BASE_URL": "http://simulator:9000",
        "MAX_CONCURRENT_REQUESTS": str(LIMIT),
        "WORKER_MAX_JOBS": "5",  # so small that the ten calls need all three workers
        "LEASE_SECONDS": str(LEASE_S),
        "PYTHON_IMAGE": PYTHON_IMAGE,
        "REDIS_IMAGE": REDIS_IMAGE,
    }
    env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    compose = Compose(
        (
            *compose_command(),
            *("--project-name", f"orchestrator-test-{uuid4().hex[:8]}"),
            *("--project-directory", str(PROJECT)),
            *("--env-file", str(env_file)),
            *("-f", str(PROJECT / "docker-compose.yml"), "-f", str(override)),
        ),
        {name: value for name, value in os.environ.items() if name not in SETTINGS},
    )
    failed_before, is_up = request.session.testsfailed, False
    try:
        compose("up", "-d", "--build", timeout_s=BUILD_S)
        is_up = True
        yield compose
    finally:
        if not is_up or request.session.testsfailed > failed_before:
            capture = request.config.pluginmanager.getplugin("capturemanager")
            with capture.global_and_fixture_disabled():
                print(compose("logs", "--no-color", "--tail", "100"))  # noqa: T201 — shows why the test failed
        compose("down", "-v", "--remove-orphans", "--rmi", "local")


@pytest.fixture
async def stack(compose: Compose) -> AsyncIterator[Stack]:
    """Yields the deployment in containers with all its workers. Its clients are in this process."""
    stack = Stack("", Keys(), {})
    stack.api.base_url = httpx.URL(compose.url("api", 8000))
    stack.simulator.base_url = httpx.URL(compose.url("simulator", 9000))
    await compose.scale(REPLICAS)
    await eventually(lambda: has_workers(stack, REPLICAS))
    await stack.simulate()
    await stack.simulator.post("/_sim/reset")
    yield stack
    await stack.stop()


def assert_answered(body: dict[str, Any], contents: list[str]) -> None:
    """Checks that every request has its own answer, in the order of the requests."""
    assert body["successful"] == body["total_requests"] == len(contents)
    assert [r["content"] for r in body["responses"]] == [f"echo: {text}" for text in contents]


def test_env_example_shows_every_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Settings(_env_file=ENV_EXAMPLE) == Settings(_env_file=None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(ENV_EXAMPLE.read_text())
    assert all(shown == ProviderSettings() for shown in load_provider_settings().values())
    assert {name.upper() for name in Settings.model_fields} <= SETTINGS


def test_compose_passes_every_setting_on() -> None:
    compose_file = (PROJECT / "docker-compose.yml").read_text()
    passed = set(re.findall(r"(?:^ +|\${)([A-Z_]+):", compose_file, re.MULTILINE))
    assert SETTINGS - passed == {"DATA_DIR"}  # only the embedded server uses it


@pytest.mark.containers
async def test_queue_runs_on_a_stock_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    require(REDIS_IMAGE)
    monkeypatch.setattr(
        testcontainers_config, "ryuk_disabled", True
    )  # `with` removes the container
    container = (
        DockerContainer(REDIS_IMAGE)
        .with_exposed_ports(6379)
        .waiting_for(LogMessageWaitStrategy("Ready to accept connections"))
    )
    with container:
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(6379)}"
        redis = connect(f"redis://{address}")
        queue = Queue(redis, Keys(), lease_s=15)
        jobs = Jobs(Store(redis, Keys()), POLICY)
        requests = {"requests": [chat("one"), chat("two")]}
        batch = BatchLLMRequest.model_validate_json(json.dumps(requests))
        await jobs.submit("job", native_items(batch.requests), Submission())
        one = Capacity(Limits({"openrouter": 1}), {}, free_slots=10)

        (first,) = (await queue.settle_and_claim([], one)).leases
        nothing = await queue.settle_and_claim([], one)
        result = Result(content="1", attempts=1, queued_ms=first.queued_ms)
        await queue.settle_and_claim([Settlement(first, "complete", result.to_json())], None)
        (second,) = (await queue.settle_and_claim([], one)).leases
        await queue.renew("worker", [second])
        await queue.settle_and_claim([Settlement(second, "retry", delay_s=0)], None)
        (again,) = (await queue.settle_and_claim([], one)).leases
        await queue.settle_and_claim([Settlement(again, "complete", result.to_json())], None)
        status = whole_job(await jobs.get("job"))
        await redis.aclose()

    assert nothing.leases == []
    assert (again.item_id, again.attempts) == (second.item_id, 1)
    assert status.status == "completed"
    assert [r.content for r in status.responses or () if r] == ["1", "1"]


@pytest.mark.containers
async def test_mixed_batch_comes_back_in_order(stack: Stack) -> None:
    texts = [f"question {i}" for i in range(100)]
    providers = ["openrouter", "ollama"]

    answer = await stack.batch(
        [chat(text, provider=providers[i % 2]) for i, text in enumerate(texts)]
    )

    assert answer.status_code == 200
    assert_answered(answer.json(), texts)
    # This is the first batch on a new Redis: no claim may be lost while the scripts are loaded.
    assert max(r["queued_ms"] for r in answer.json()["responses"]) < LEASE_S * 1000


@pytest.mark.containers
async def test_limit_holds_over_the_replicas(stack: Stack) -> None:
    await stack.simulate(latency_ms=50)
    batches = [[f"{b}-{i}" for i in range(100)] for b in range(4)]

    answers = await asyncio.gather(*(stack.batch([chat(t) for t in texts]) for texts in batches))

    for answer, texts in zip(answers, batches, strict=True):
        assert_answered(answer.json(), texts)
    stats = await stack.stats()
    assert (stats["peak"], stats["total"]) == (LIMIT, 400)


@pytest.mark.containers
async def test_items_of_a_killed_worker_run_again(compose: Compose, stack: Stack) -> None:
    await stack.simulate(latency_ms=500)
    texts = [f"item {i}" for i in range(60)]
    batch = asyncio.create_task(stack.batch([chat(text) for text in texts]))
    await stack.in_flight(LIMIT)

    await docker("kill", (await compose.containers("worker"))[0])
    body = (await batch).json()

    assert_answered(body, texts)
    stats = await stack.stats()
    assert stats["peak"] == LIMIT
    assert stats["aborted"] >= 1
    # A worker may be killed between an answer and its settlement, too.
    assert 60 + stats["aborted"] <= stats["total"] <= 60 + LIMIT
    job = (await stack.api.get(f"/jobs/{body['job_id']}")).json()
    assert job["responses"] == body["responses"]


@pytest.mark.containers
async def test_stopped_worker_finishes_its_calls(compose: Compose, stack: Stack) -> None:
    await stack.simulate(latency_ms=500)
    texts = [f"item {i}" for i in range(60)]
    batch = asyncio.create_task(stack.batch([chat(text) for text in texts]))
    await stack.in_flight(LIMIT)

    stopped = (await compose.containers("worker"))[0]
    await docker("stop", stopped)
    body = (await batch).json()

    assert (await inspect(stopped))["State"]["ExitCode"] == 0
    assert_answered(body, texts)
    assert {r["attempts"] for r in body["responses"]} == {1}
    assert (await stack.stats())["total"] == 60


@pytest.mark.containers
async def test_job_outlives_redis(compose: Compose, stack: Stack) -> None:
    await stack.simulate(latency_ms=200)
    texts = [f"item {i}" for i in range(60)]
    accepted = await stack.batch([chat(text) for text in texts], params={"mode": "async"})
    await stack.in_flight(LIMIT)
    (redis,) = await compose.containers("redis")

    await docker("kill", redis)
    await docker("start", redis)

    async def completed() -> bool:
        job = await stack.api.get(accepted.headers["Location"])
        return job.status_code == 200 and job.json()["status"] == "completed"

    await eventually(completed)
    job = (await stack.api.get(accepted.headers["Location"])).json()
    assert_answered(job, texts)


@pytest.mark.containers
async def test_compose_publishes_on_loopback_and_limits_redis(
    compose: Compose, stack: Stack
) -> None:
    """tests/attack/test_hosts_and_origins.py has the test of the files, which needs no engine."""
    (redis,) = await compose.containers("redis")
    limit = await docker("exec", redis, "redis-cli", "config", "get", "maxmemory")

    assert str(stack.api.base_url.host) == "127.0.0.1"
    assert int(limit.stdout.split()[1]) > 0
    assert (await inspect(redis))["NetworkSettings"]["Ports"] in ({}, {"6379/tcp": None})


@pytest.mark.containers
async def test_a_fourth_worker_joins(compose: Compose, stack: Stack) -> None:
    await compose.scale(4)
    await eventually(lambda: has_workers(stack, 4))
    texts = [f"item {i}" for i in range(100)]

    answer = await stack.batch([chat(text) for text in texts])

    assert_answered(answer.json(), texts)
    assert (await stack.stats())["peak"] <= LIMIT


@pytest.mark.containers
async def test_the_image_has_the_page(stack: Stack) -> None:
    page = await stack.api.get("/")
    files = re.findall(r'(?:href|src)="(static/[^"]+)"', page.text)

    assert len(files) >= 4
    assert {(await stack.api.get(f"/{path}")).status_code for path in files} == {200}


@pytest.mark.containers
@pytest.mark.parametrize("service", ["api", "worker"])
@pytest.mark.usefixtures("stack")
async def test_the_image_can_trace(compose: Compose, service: str) -> None:
    container = (await compose.containers(service))[0]

    await docker("exec", container, "python", "-c", "import shared.monitoring.otel")


@pytest.mark.containers
@pytest.mark.usefixtures("stack")
async def test_the_image_has_the_command_for_lanes(compose: Compose) -> None:
    container = (await compose.containers("worker"))[0]

    shown = await docker("exec", container, "orchestrator", "lanes")

    assert re.search(rf"^openrouter +0 of {LIMIT} +0 +0 +healthy", shown.stdout, re.MULTILINE)


@pytest.mark.containers
def test_the_observability_file_fits(compose: Compose) -> None:
    more = ("-f", str(PROJECT / "docker-compose.observability.yml"))
    merged = run(*compose.command, *more, "config", environment=compose.environment).stdout

    assert "WORKER_METRICS_PORT" in merged
    sources = re.findall(r"(/\S*/observability/[^:\s]+)", merged)
    assert len(sources) == 5
    assert all(Path(source).is_file() for source in sources)


@pytest.mark.containers
@pytest.mark.parametrize("service", ["redis", "api", "worker"])
@pytest.mark.usefixtures("stack")
async def test_container_can_do_little(compose: Compose, service: str) -> None:
    container = (await compose.containers(service))[0]
    host = (await inspect(container))["HostConfig"]

    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (await docker("exec", container, "touch", "/file", check=False)).returncode
    if service != "redis":  # the Redis image starts as root and then changes to its own user
        assert (await docker("exec", container, "id", "-u")).stdout.strip() == "10001"


@pytest.mark.containers
@pytest.mark.usefixtures("stack")
async def test_redis_has_no_keys_and_only_the_api_a_port(compose: Compose) -> None:
    keys, ports = {}, {}
    for service in ("redis", "api", "worker"):
        described = await inspect((await compose.containers(service))[0])
        keys[service] = "OPENROUTER_API_KEY=test-key" in (described["Config"]["Env"] or ())
        ports[service] = list(described["HostConfig"]["PortBindings"] or ())

    assert keys == {"redis": False, "api": True, "worker": True}
    assert ports == {"redis": [], "api": ["8000/tcp"], "worker": []}


@pytest.mark.containers
@pytest.mark.parametrize("service", ["redis", "api", "worker"])
@pytest.mark.usefixtures("stack")
async def test_health_check_passes(compose: Compose, service: str) -> None:
    container = (await compose.containers(service))[0]
    kind, *command = (await inspect(container))["Config"]["Healthcheck"]["Test"]

    assert kind == "CMD"
    await docker("exec", container, *command)


@pytest.mark.containers
@pytest.mark.usefixtures("stack")
async def test_redis_loses_nothing(compose: Compose) -> None:
    (redis,) = await compose.containers("redis")

    names = ("appendonly", "maxmemory-policy", "dir")
    shown = (await docker("exec", redis, "redis-cli", "config", "get", *names)).stdout.split()

    assert dict(zip(shown[::2], shown[1::2], strict=True)) == {
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
        "dir": "/data",
    }
