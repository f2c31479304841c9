"""Tests submissions that are repeated, and clients that disconnect."""

import asyncio
import json
from base64 import b64encode
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.jobs import NDJSON, job, lines, results, upload, wait_completed
from support.stack import Start, chat, eventually

from shared.models import LLMRequest
from shared.queue.redis_keys import Keys

DAY_S = 86_400


async def keyed(client: httpx.AsyncClient, key: str, *contents: str, **options: Any) -> Any:
    body = {"requests": [chat(text) for text in contents], **options.pop("options", {})}
    return await client.post("/batch", json=body, headers={"Idempotency-Key": key}, **options)


async def test_the_same_key_and_body_are_one_job(stack: Start) -> None:
    deployment = await stack(workers=1)

    first = await keyed(deployment.api, "key-1", "a", "b")
    second = await keyed(deployment.api, '"key-1"', "a", "b")  # quoted, as the draft requires
    polled = await keyed(deployment.api, "key-1", "a", "b", params={"mode": "async"})

    assert first.status_code == 200
    assert second.json() == first.json()
    assert polled.status_code == 202
    assert polled.json()["responses"] == first.json()["responses"]
    assert (await deployment.stats())["total"] == 2


async def test_the_same_key_at_two_apis_at_once_is_one_job(stack: Start) -> None:
    deployment = await stack(workers=2)
    second = await deployment.another_api()
    await deployment.simulate(latency_ms=100)

    for number in range(5):
        requests = [keyed(api, f"key-{number}", "a", "b") for api in (deployment.api, second) * 4]
        answers = await asyncio.gather(*requests)

        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["job_id"] for answer in answers}) == 1
        assert (await deployment.stats())["total"] == 2 * (number + 1)


async def test_a_repeated_request_waits_for_the_job_that_runs(stack: Start) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=60_000)
    first = await keyed(deployment.api, "key", "a", params={"mode": "async"})
    await deployment.in_flight(1)
    second = asyncio.create_task(keyed(deployment.api, "key", "a"))
    streamed = asyncio.create_task(results(deployment.api, first.headers["location"]))

    async def waits() -> bool:
        return not second.done()

    await eventually(waits)
    await deployment.api.delete(first.headers["location"])

    assert (await second).json()["job_id"] == first.json()["job_id"]
    assert (await streamed)[0]["error_code"] == "cancelled"
    assert (await deployment.stats())["total"] == 1


@pytest.mark.parametrize(
    ("contents", "options"),
    [(["a", "c"], {}), (["b", "a"], {}), (["a"], {}), (["a", "b"], {"deadline_s": 60})],
    ids=["another", "order", "fewer", "option"],
)
async def test_the_same_key_with_another_body_is_refused(
    stack: Start, contents: list[str], options: dict[str, Any]
) -> None:
    deployment = await stack(workers=1)
    await keyed(deployment.api, "key", "a", "b")

    answer = await keyed(deployment.api, "key", *contents, options=options)

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]
    assert (await deployment.stats())["total"] == 2


async def test_options_and_requests_are_not_confused(stack: Start) -> None:
    deployment = await stack(workers=0, WEBHOOK_SECRET=f"whsec_{b64encode(bytes(32)).decode()}")
    headers = {"Idempotency-Key": "key"}
    one, two = chat("1"), chat("2")
    request = LLMRequest.model_validate_json(json.dumps(one))
    first = request.model_dump_json(exclude_defaults=True)
    batches = (
        {"requests": [one, two], "webhook_url": "http://127.0.0.1:1/"},
        {"requests": [two], "webhook_url": f"http://127.0.0.1:1/{first}"},
    )

    codes = [
        (await deployment.api.post("/batch?mode=async", json=batch, headers=headers)).status_code
        for batch in batches
    ]

    assert codes == [202, 422]


async def test_uploads_have_keys(stack: Start, redis: ArqRedis, keys: Keys) -> None:
    deployment = await stack(workers=1, IDEMPOTENCY_TTL_SECONDS="1000")
    body = lines(str(n) for n in range(1000))

    first = await upload(deployment.api, body, params={"deadline_s": 300})
    again = await deployment.api.post(
        "/jobs",
        content=body,
        headers={**NDJSON, "Idempotency-Key": "key"},
    )
    second = await deployment.api.post(
        "/jobs", content=body, headers={**NDJSON, "Idempotency-Key": "key"}
    )
    other = await deployment.api.post(
        "/jobs", content=body + lines(["x"]), headers={**NDJSON, "Idempotency-Key": "key"}
    )

    assert first != again.headers["location"] == second.headers["location"]
    assert other.status_code == 422
    await wait_completed(deployment.api, first)
    await wait_completed(deployment.api, second.headers["location"])
    assert 990 < await redis.ttl(keys.idempotency("", "key")) <= 1000
    assert (await deployment.stats())["total"] == 2000


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "x" * 10_240, "a\tb", "é".encode()])
@pytest.mark.parametrize("path", ["/batch", "/jobs"])
async def test_an_invalid_key_is_refused(
    api: httpx.AsyncClient, path: str, key: str | bytes
) -> None:
    value = key if isinstance(key, bytes) else key.encode()
    headers = [(b"Idempotency-Key", value)]

    answer = await api.post(path, json={"requests": [chat("x")]}, headers=headers)

    assert answer.status_code == 422


async def test_a_control_character_in_a_key_is_invalid_http(stack: Start) -> None:
    deployment = await stack(workers=0)
    url = deployment.api.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /batch HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: a\x01b\r\n\r\n")

    assert b" 400 " in await reader.readline()
    writer.close()


async def test_a_refused_batch_does_not_use_its_key(stack: Start) -> None:
    deployment = await stack(workers=0, MAX_QUEUE_DEPTH="1")
    full = await keyed(deployment.api, "first", "x", params={"mode": "async"})
    refused = await keyed(deployment.api, "key", "a", params={"mode": "async"})
    await deployment.api.delete(full.headers["location"])

    accepted = await keyed(deployment.api, "key", "b", params={"mode": "async"})

    assert refused.status_code == 429
    assert accepted.status_code == 202


async def test_a_key_whose_job_has_expired_is_a_conflict(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=1)
    first = await keyed(deployment.api, "key", "a")
    assert DAY_S - 60 < await redis.ttl(keys.idempotency("", "key")) <= DAY_S
    await redis.delete(keys.job(first.json()["job_id"]))  # as if the job had expired

    for mode in ("sync", "async"):
        answer = await keyed(deployment.api, "key", "a", params={"mode": mode})

        assert answer.status_code == 409
        assert "expired" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "settings", "continues"),
    [
        ({}, {}, False),
        ({"Accept": "text/event-stream"}, {}, False),
        ({"Idempotency-Key": "key"}, {}, True),
        ({"Idempotency-Key": "key", "Accept": "text/event-stream"}, {}, True),
        ({}, {"CANCEL_ON_DISCONNECT": "false"}, True),
    ],
)
async def test_the_job_of_a_client_that_disconnects_is_cancelled_or_continues(
    stack: Start,
    redis: ArqRedis,
    keys: Keys,
    headers: dict[str, str],
    settings: dict[str, str],
    *,
    continues: bool,
) -> None:
    """Nobody will read the answers, unless the client can get them by its idempotency key."""
    deployment = await stack(workers=1, DISCONNECT_GRACE_SECONDS="0.5", **settings)
    await deployment.simulate(by_dialect={"openai": {"latency_ms": 60_000}})
    waiting = asyncio.create_task(deployment.batch([chat("x"), chat("y")], headers=headers))
    await deployment.in_flight(2)

    waiting.cancel()
    [job_id] = await redis.zrange(keys.jobs_by_owner(""), 0, -1)
    location = f"/jobs/{job_id.decode()}"

    if continues:
        # When this batch has completed, the API has handled the disconnect.
        other = await deployment.batch([chat("z", provider="ollama")])
        assert other.status_code == 200
        assert (await job(deployment.api, location))["running"] == 2
        await deployment.api.delete(location)
    else:
        assert (await wait_completed(deployment.api, location))["status"] == "cancelled"

    async def idle() -> bool:
        return bool((await deployment.stats())["in_flight"] == 0)

    await eventually(idle)
