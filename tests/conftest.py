"""Real servers for every test: Valkey on a unix socket, the simulator, the API and workers."""

import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO
from uuid import uuid4

import httpx
import pytest
from arq.connections import ArqRedis
from support.command import Orchestrator
from support.data_directory import data_directory
from support.in_process import LEASE_S, running_api, running_worker
from support.providers import endpoint_of
from support.redis_server import Server, running_server
from support.stack import Stack, Start, stacks

from cli.simulator import Simulator
from shared.jobs.store import Store
from shared.providers import BUILT_IN, PROVIDERS, Catalogue
from shared.queue.claims import Queue
from shared.queue.redis_keys import Keys
from shared.redis import embedded
from shared.redis.client import connect
from shared.settings import ProviderSettings, Settings
from worker.providers.connections import http_client
from worker.providers.endpoint import Endpoint

pytest.register_assert_rewrite(
    "support.invariants",
    "support.jobs",
    "support.load",
    "support.mixed_load",
    "support.openai_batches",
    "support.queue_comparison",
    "support.queue_model",
)
# A shell lets its background jobs ignore SIGINT; the processes that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """Starts the Valkey server that the tests share; each has a key prefix of its own."""
    with data_directory() as directory:
        server = embedded.use(Path(directory))
        yield server.url
        server.release()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Starts a Valkey server for this test alone."""
    async with running_server() as server:
        yield server


@pytest.fixture
def keys() -> Keys:
    return Keys(f"test-{uuid4().hex}:")


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[ArqRedis]:
    client = connect(valkey_url)
    yield client
    await client.aclose()


@pytest.fixture
def queue(redis: ArqRedis, keys: Keys) -> Queue:
    # No lease expires by itself on a slow machine: the tests of lost workers expire leases.
    return Queue(redis, keys, lease_s=60)


@pytest.fixture
def store(redis: ArqRedis, keys: Keys) -> Store:
    return Store(redis, keys)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
def settings(valkey_url: str, keys: Keys) -> Settings:
    return Settings(
        _env_file=None, redis_url=valkey_url, key_prefix=keys.prefix, lease_seconds=LEASE_S
    )


@pytest.fixture
def providers(simulator: Simulator) -> dict[str, ProviderSettings]:
    return {
        "openrouter": ProviderSettings(api_key="test-key", base_url=f"{simulator.url}/api/v1"),
        "ollama": ProviderSettings(base_url=simulator.url),
    }


@pytest.fixture
def endpoints(providers: dict[str, ProviderSettings]) -> dict[str, Endpoint]:
    """Returns what workers know of the providers that `providers` configures."""
    return {name: endpoint_of(PROVIDERS[name], settings) for name, settings in providers.items()}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Provides the client with which workers call providers."""
    async with http_client(max_connections=10) as client:
        yield client


@pytest.fixture
def catalogue() -> Catalogue:
    """Returns the providers that `api` knows. Modules override it to add others."""
    return BUILT_IN


@pytest.fixture
async def api(settings: Settings, catalogue: Catalogue) -> AsyncIterator[httpx.AsyncClient]:
    """Runs the application in this process, without a worker."""
    async with running_api(settings, catalogue) as client:
        yield client


@pytest.fixture
async def worker(settings: Settings, providers: dict[str, ProviderSettings]) -> AsyncIterator[None]:
    async with running_worker(settings, providers):
        yield


@pytest.fixture
async def stack(valkey_url: str, keys: Keys) -> AsyncIterator[Start]:
    """Starts an API, workers and the simulator as processes."""
    async with stacks(valkey_url, keys) as start:
        yield start


@pytest.fixture
async def deployment(stack: Start) -> Stack:
    return await stack(workers=2)


@pytest.fixture
async def orchestrator(deployment: Stack, tmp_path: Path) -> AsyncIterator[Orchestrator]:
    """The command, as a user of `deployment` types it."""
    orchestrator = Orchestrator(deployment, tmp_path)
    yield orchestrator
    await orchestrator.stop()


@pytest.fixture
def output() -> Iterator[IO[bytes]]:
    """A file for the output of processes."""
    with tempfile.TemporaryFile() as file:
        yield file


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """An environment without settings, with an empty data directory."""
    with tempfile.TemporaryDirectory(prefix="up-", ignore_cleanup_errors=True) as directory:
        names = ("PATH", "HOME", "LANG", "PYTHONPATH")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        yield kept | {"DATA_DIR": directory, "COLUMNS": "120"}
