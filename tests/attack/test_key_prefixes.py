"""Tests that a deployment cannot read the keys of a deployment whose prefix begins with its own."""

from collections.abc import AsyncIterator

import httpx
import hypothesis
import pytest
from arq.connections import ArqRedis
from hypothesis import given
from hypothesis import strategies as st
from support.in_process import running_api
from support.jobs import lines, upload

from shared.queue.redis_keys import Keys, check_prefix
from shared.settings import Settings

NAMES = sorted(Keys.names())
PIECES = st.sampled_from([*NAMES, *(f"{name}:" for name in NAMES), "a", "a:", ":", "_", "fair_"])


def own_keys(prefix: str) -> tuple[set[str], tuple[str, ...]]:
    """Returns the keys without ids, and how the keys with ids begin."""
    keys = [getattr(Keys(prefix), name) for name in NAMES]
    return {k for k in keys if isinstance(k, str)}, tuple(k() for k in keys if callable(k))


def may_meet(shorter: str, longer: str) -> bool:
    """Returns whether both deployments can have the same key, with some ids."""
    (plain, begins), (longer_plain, longer_begins) = own_keys(shorter), own_keys(longer)
    return bool(plain & longer_plain) or any(
        key.startswith(begins) for key in [*longer_plain, *longer_begins]
    )


@hypothesis.settings(deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=3).map("".join))
def test_no_shorter_prefix_has_a_key_of_an_accepted_prefix(prefix: str) -> None:
    meeting = [n for n in range(1, len(prefix)) if may_meet(prefix[:n], prefix)]
    try:
        check_prefix(prefix)
    except ValueError:
        assert meeting, "the prefix is refused although it is safe"
    else:
        assert not meeting, "the prefix is accepted although it is not safe"


@pytest.mark.parametrize(
    "prefix", ["a:", "prod", "job:", "team_1:jobs:", "orchestrator:simulated:"]
)
def test_usual_prefixes_are_accepted(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.fixture
async def longer(settings: Settings, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """Runs a deployment of a version that accepted any prefix."""
    nested = settings.model_copy(update={"key_prefix": keys.job("")})
    async with running_api(nested) as client:
        yield client


@pytest.mark.parametrize("path", ["", "/results?follow=false", "/events"])
async def test_an_id_does_not_name_a_job_under_a_longer_prefix(
    api: httpx.AsyncClient, longer: httpx.AsyncClient, path: str
) -> None:
    job_id = (await upload(longer, lines("x"))).removeprefix("/jobs/")

    answer = await api.get(f"/jobs/job:{job_id}{path}")

    assert answer.status_code == 404


@pytest.mark.parametrize("text", ["job:x", "x:0", "x.webhook", "*", "x y", "x" * 65])
async def test_a_text_that_is_no_id_does_not_reach_redis(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys, text: str
) -> None:
    job: dict[str | bytes, bytes] = {
        b"total": b"1",
        b"owner": b"",
        b"accepted_ms": b"1",
        b"lanes": b"",
    }
    await redis.hset(keys.job(text), mapping=job)  # type: ignore[misc]

    statuses = [
        (await api.request(method, f"/jobs/{text}{path}")).status_code
        for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("GET", "/results")]
    ]

    assert statuses == [404] * 4
    assert await redis.hgetall(keys.job(text)) == job  # type: ignore[misc]
