"""Tests idempotency keys across a change of version, and that every key expires."""

import httpx
import pytest
from arq.connections import ArqRedis
from support.jobs import NDJSON, lines, upload, wait_completed
from support.stack import Start, chat, eventually

from shared.jobs.submission import FINGERPRINT_VERSION, MAX_KEY_S
from shared.queue.redis_keys import Keys

DAY_S = 86_400
HEADERS = {"Idempotency-Key": "key"}


async def keyed(api: httpx.AsyncClient, content: str, **options: int) -> httpx.Response:
    body = {"requests": [chat(content)], **options}
    return await api.post("/batch?mode=async", json=body, headers=HEADERS)


async def test_a_key_finds_its_job_after_a_change_of_the_fingerprint(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    """Another version has stored another fingerprint. The keys of uploads have the same form."""
    deployment = await stack(workers=1)
    first = await keyed(deployment.api, "a")
    conflict = await keyed(deployment.api, "b")
    key = keys.idempotency("", "key")
    version, _, rest = (await redis.get(key) or b"").decode().partition(":")
    fingerprint, _, job_id = rest.partition(" ")

    await redis.set(key, f"{FINGERPRINT_VERSION + 1}:other {job_id}", keepttl=True)
    repeated = await keyed(deployment.api, "a")
    location = await upload(deployment.api, lines(["a"]), headers=NDJSON | HEADERS)

    assert int(version) == FINGERPRINT_VERSION
    assert fingerprint != "other"
    assert conflict.status_code == 422
    assert repeated.status_code == 202
    assert repeated.headers["location"] == location == first.headers["location"]
    await wait_completed(deployment.api, location)
    assert (await deployment.stats())["total"] == 1


async def test_a_key_does_not_expire_before_its_job(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    """If not, the same key would create a second job, which costs money again."""
    deployment = await stack(workers=0, IDEMPOTENCY_TTL_SECONDS="1")
    first = await keyed(deployment.api, "x")

    running_s = await redis.ttl(keys.idempotency("", "key"))
    await deployment.api.delete(first.headers["location"])

    async def is_free() -> bool:
        again = await keyed(deployment.api, "x")
        return bool(again.headers["location"] != first.headers["location"])

    assert running_s > 29 * DAY_S  # a job that does not end for a month is lost
    await eventually(is_free)


@pytest.mark.parametrize(
    ("options", "until_end_s"), [({}, MAX_KEY_S), ({"deadline_s": 3600}, 3600)]
)
async def test_a_key_expires_also_if_its_job_does_not_end(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys, options: dict[str, int], until_end_s: int
) -> None:
    await keyed(api, "a", **options)

    ttl_s = await redis.ttl(keys.idempotency("", "key"))

    assert until_end_s + DAY_S - 60 < ttl_s <= until_end_s + DAY_S
