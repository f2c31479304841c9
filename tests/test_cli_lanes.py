"""Tests `orchestrator lanes`, which connects to the Redis of a deployment, not to its API."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.claims import accept, claim, settle
from support.command import Orchestrator
from support.stack import Stack, chat, eventually

from cli.simulator import Simulator
from cli.simulator.behaviour import Behaviour
from cli.simulator.outages import Outage
from shared.jobs.store import Store
from shared.queue.claims import Queue
from shared.queue.leases import Fault, Settlement
from shared.queue.redis_keys import Keys
from shared.queue.verdict import Verdict

UNREACHABLE = Fault(Verdict.UNREACHABLE, "could not be reached", "connection_error")
LIMITED = Fault(Verdict.RATE_LIMITED, "answered 429", "rate_limited", wait_s=600)


@pytest.fixture
async def operator(valkey_url: str, keys: Keys, tmp_path: Path) -> AsyncIterator[Orchestrator]:
    """The command, on a machine that can connect to Redis, and knows no API."""
    orchestrator = Orchestrator(Stack(valkey_url, keys, {}), tmp_path)
    del orchestrator.environment["ORCHESTRATOR_URL"]
    orchestrator.environment |= {"REDIS_URL": valkey_url, "KEY_PREFIX": keys.prefix}
    yield orchestrator
    await orchestrator.stop()


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("status", "state", "name"),
    [(429, "paused", "openrouter/m"), (503, "probing", "openrouter")],
)
async def test_resume_makes_the_next_call_now(
    api: httpx.AsyncClient,
    simulator: Simulator,
    operator: Orchestrator,
    status: int,
    state: str,
    name: str,
) -> None:
    simulator.configure(Behaviour(outage=Outage(status=status, headers={"Retry-After": "3600"})))
    job = await api.post("/batch", json={"requests": [chat("a")]}, params={"mode": "async"})

    async def is_reported() -> bool:
        lanes = (await api.get("/overview")).json()["lanes"]
        found = [one for lane in lanes for one in lane["deployments"]]
        return [(one["name"], one["state"]) for one in found] == [("openrouter/m", state)]

    await eventually(is_reported)
    simulator.configure(Behaviour())

    code, output, errors = await operator("lanes", "resume", name)

    async def is_completed() -> bool:
        state = (await api.get(job.headers["location"])).json()
        return bool(state["successful"] == 1)

    assert (code, output, errors) == (0, "openrouter/m: the next call is made now\n", "")
    await eventually(is_completed)


async def test_lanes_are_listed_with_what_is_not_healthy(
    queue: Queue, store: Store, operator: Orchestrator
) -> None:
    await accept(store, "job", ["openai", "openai", "openrouter", "ollama"])
    leases = await claim(queue, openai=2, openrouter=1, ollama=1)
    faults = {"openai": UNREACHABLE, "openrouter": LIMITED}
    failed = [
        Settlement(lease, "retry", fault=faults[lease.lane])
        for lease in leases
        if lease.lane in faults
    ]
    await settle(queue, *failed)

    _, shown, _ = await operator("lanes")
    _, as_json, _ = await operator("lanes", "--json")
    code, nothing, _ = await operator("lanes", "resume", "Ollama")
    misspelt, _, errors = await operator("lanes", "resume", "opnai")
    model, _, account = await operator("lanes", "resume", "openai/m")
    _, both, _ = await operator("lanes", "resume", "openai")

    lines = [" ".join(line.split()) for line in shown.splitlines()]
    time = r"\d\d:\d\d:\d\d UTC"
    for expected in (
        rf"openai 0 of \? \d \d not working since {time}, next call .*: could not be reached",
        r"openrouter 0 of \? 1 0 healthy",
        rf"openrouter/m paused until {time}: answered 429",
        r"ollama 1 of \? 0 0 healthy",
    ):
        assert any(re.fullmatch(expected, line) for line in lines), (expected, shown)
    by_name = {lane["name"]: lane for lane in map(json.loads, as_json.splitlines())}
    assert [one["verdict"] for one in by_name["openrouter"]["deployments"]] == ["rate_limited"]
    assert (code, nothing) == (0, "Ollama is healthy: there is nothing to resume.\n")
    assert misspelt == 2
    assert "is named 'opnai'; did you mean openai" in errors
    assert model == 2
    assert re.search(
        "openai as a whole is not working .* orchestrator lanes resume openai", account
    )
    assert both == "openai: the next call is made now\n"


async def test_without_a_redis_the_command_says_where_it_looked(
    operator: Orchestrator, tmp_path: Path
) -> None:
    del operator.environment["REDIS_URL"]
    operator.environment["DATA_DIR"] = str(tmp_path / "data")

    code, output, errors = await operator("lanes")

    assert (code, output) == (1, "")
    assert f"no `orchestrator up` runs with DATA_DIR={tmp_path / 'data'}" in errors
    assert not (tmp_path / "data").exists()


async def test_an_unavailable_redis_is_named(operator: Orchestrator) -> None:
    operator.environment["REDIS_URL"] = "redis://:secret@127.0.0.1:1"

    code, _, errors = await operator("lanes", "resume", "openai")

    assert code == 1
    assert errors.startswith("orchestrator: Redis at 127.0.0.1:1 is unavailable: ")
    assert "secret" not in errors
