"""Tests `orchestrator limits`, and limits that are set while work runs."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from support.claims import accept, claim, finish
from support.command import Orchestrator
from support.stack import Stack

from shared.jobs.store import Store
from shared.monitoring.limits import NamedLimits, limits_of
from shared.monitoring.reports import Report, ReportWriter
from shared.providers import ModelLimits
from shared.queue.capacity import Rules
from shared.queue.claims import Queue
from shared.queue.redis_keys import Keys

RULES = Rules(rpm=600, models=(ModelLimits("gpt-5*", max_concurrent_requests=8),))


@pytest.fixture
async def operator(valkey_url: str, keys: Keys, tmp_path: Path) -> AsyncIterator[Orchestrator]:
    orchestrator = Orchestrator(Stack(valkey_url, keys, {}), tmp_path)
    orchestrator.environment |= {"REDIS_URL": valkey_url, "KEY_PREFIX": keys.prefix}
    yield orchestrator
    await orchestrator.stop()


@pytest.fixture
async def workers(redis: Redis, keys: Keys, queue: Queue) -> None:
    """Two workers report: they have the same settings, except for one model."""
    writer = ReportWriter(redis, keys)
    limits = {"openai": 10, "ollama": 10}
    for worker, rules in (("one", RULES), ("two", replace(RULES, models=()))):
        await queue.renew(worker, [])
        await writer.write(Report(worker, 1.0, {}, limits, limits, {"openai": rules.shown()}), {})


@pytest.mark.usefixtures("workers")
async def test_limits_are_set_shown_and_unset(
    operator: Orchestrator, queue: Queue, store: Store, api: httpx.AsyncClient
) -> None:
    await accept(store, "job", ["openai"] * 40)

    code, said, errors = await operator("limits", "set", "openai", "--concurrency", "12")
    assert (code, said, errors) == (0, "openai: 12 calls\n", "")
    _, said, _ = await operator("limits", "set", "OpenAI", "--rpm", "60000", "--for", "2h")
    assert said.startswith("openai: 12 calls, 60,000 rpm until 2")

    leases = await claim(queue, openai=10)
    assert len(leases) == 12
    lanes = (await api.get("/overview")).json()["lanes"]
    assert [lane["limit"] for lane in lanes if lane["name"] == "openai"] == [12]

    _, shown, disagreement = await operator("limits")
    _, as_json, _ = await operator("limits", "--json")
    assert "openai/gpt-5*" in shown
    assert "1 more providers" in shown
    assert " ".join(disagreement.split()) == (
        "openai/gpt-5*: the workers have different limits: 8 calls (one); none (two). Give all"
        " workers the same settings and the same PROVIDERS_FILE, and restart them."
    )
    found = {one["name"]: one for one in map(json.loads, as_json.splitlines())}
    assert found.keys() == {"ollama", "openai", "openai/gpt-5*"}
    assert found["openai"]["in_force"] == {"concurrency": 12, "rpm": 60_000}
    assert found["openai"]["configured"] == [
        {"limits": {"concurrency": 10, "rpm": 600}, "workers": ["one", "two"]}
    ]

    _, said, _ = await operator("limits", "unset", "openai")
    assert said == "openai: the limits of the settings apply again\n"
    await finish(queue, leases)
    assert len(await claim(queue, openai=10)) == 10
    assert (await operator("limits", "unset", "openai"))[0] == 2


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["openai/", "--rpm", "1"], "'openai/' must be PROVIDER or PROVIDER/MODEL"),
        (["openai/o*", "--rpm", "1"], "'openai/o*' is a pattern"),
        (["fast", "--rpm", "1"], "An alias has no limits of its own"),
        (["opnai", "--rpm", "1"], "no provider of a worker is named 'opnai'; did you mean openai?"),
        (["openai"], "nothing to set: give --concurrency, --rpm, --tpm or --rpd"),
        (["openai", "--rpm", "0"], "Invalid value for '--rpm'"),
        (["openai", "--rpm", "1", "--for", "2 weeks"], "--for must be a time of up to 366 days"),
    ],
)
async def test_what_cannot_be_set(
    operator: Orchestrator, arguments: list[str], complaint: str
) -> None:
    code, output, errors = await operator("limits", "set", *arguments)

    assert (code, output) == (2, "")
    assert complaint in " ".join(errors.split())


def test_where_limits_come_from() -> None:
    report = {"limits": {"a": 50}, "rules": {"a": {"adaptive": True, "tpm": 1000}}}
    other = {"limits": {"a": 40, "@alias": 40}}

    found = limits_of(
        {"one": report, "two": other},
        {"a/m": {"rpm": 5, "until_ms": 2000}, "a/n": {"rpm": 5, "until_ms": 1000}},
        {"a/m": {"rpm": 60, "tpm": 900}},
        {"a": {"cap": 12.6}},
        now_ms=1500,
    )

    account, model = found
    assert account == NamedLimits(
        "a",
        configured=[({"concurrency": 50, "tpm": 1000}, ["one"]), ({"concurrency": 40}, ["two"])],
        adapted=12,
        in_force={"concurrency": 12, "tpm": 1000},
    )
    assert (model.name, model.in_force) == ("a/m", {"rpm": 5, "tpm": 900})
    assert model.set_until is not None
