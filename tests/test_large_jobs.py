"""Tests uploads of jobs of any size: all of an NDJSON upload is accepted or nothing."""

import asyncio
import json
from collections.abc import AsyncIterator

import psutil
import pytest
from arq.connections import ArqRedis
from support.jobs import NDJSON, job, lines, results, upload, wait_completed
from support.stack import Stack, Start, chat, eventually, stored

from shared.jobs.staging import STAGING_TTL_S
from shared.queue.redis_keys import Keys

MB = 1_000_000


async def occurrences(redis: ArqRedis, keys: Keys, text: bytes) -> int:
    """Counts `text` in the strings and hashes of the test's keys."""
    found = 0
    for key in await stored(redis, keys):
        kind = await redis.type(key)
        if kind == b"hash":
            values = await redis.hvals(key)  # type: ignore[misc]
            found += sum(value.count(text) for value in values)
        elif kind == b"string":
            found += (await redis.get(key) or b"").count(text)
    return found


async def test_a_job_of_many_lines_is_answered_in_order(stack: Start) -> None:
    deployment = await stack(workers=2, MAX_CONCURRENT_REQUESTS="50")
    contents = [f"line {number}" for number in range(2345)]

    location = await upload(deployment.api, lines(contents, provider="ollama"))
    answers = await results(deployment.api, location)

    assert [answer["content"] for answer in answers] == [f"echo: {text}" for text in contents]
    assert [answer["index"] for answer in answers] == list(range(2345))
    status = await job(deployment.api, location)
    assert (status["status"], status["successful"], status["responses"]) == (
        "completed",
        2345,
        None,
    )
    assert (await deployment.stats())["total"] == 2345


async def test_json_is_accepted(stack: Start) -> None:
    deployment = await stack(workers=1)

    answer = await deployment.api.post("/jobs", json={"requests": [chat("x")]})

    assert answer.status_code == 202
    done = await wait_completed(deployment.api, answer.headers["location"])
    assert done["responses"][0]["content"] == "echo: x"


async def test_lines_are_found_however_the_body_is_divided(stack: Start) -> None:
    """Chunks end within lines. There are CRLFs and empty lines, but no line break at the end."""
    deployment = await stack(workers=1)
    body = b"\r\n\n".join(lines(["ä", "b" * 9000, "c"]).splitlines())

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    answer = await deployment.api.post("/jobs", content=chunks(), headers=NDJSON)

    texts = [line["content"] for line in await results(deployment.api, answer.headers["location"])]
    assert [text.removeprefix("echo: ")[:3] for text in texts] == ["ä", "bbb", "c"]


async def test_an_invalid_line_is_located_and_nothing_is_stored(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=1, MAX_LINE_BYTES="30000")
    before = await stored(redis, keys)
    good = [lines([f"{n}"], request_id=f"id-{n}") for n in range(1400)]
    for line, reason in (
        (b'{"provider": ', "Invalid JSON"),
        (b"[]", "should be an object"),
        (b'"text"', "should be an object"),
        (lines(["x"], frobnicate=1), "Extra inputs are not permitted"),
        (lines(["x"], provider="nobody"), "no provider is named"),
        (lines(["x"], request_id="id-3"), "must differ from the request_id in line 4"),
        (lines(["x" * 40_000]), "longer than 30000 bytes"),
        (b"\xff\xfe", "Invalid JSON"),
    ):
        body = b"".join([*good[:1200], line.strip() + b"\n", *good[1200:]])

        answer = await deployment.api.post("/jobs", content=body, headers=NDJSON)

        assert answer.status_code == 422, line[:50]
        [first, *_] = answer.json()["detail"]
        assert first["loc"][:3] == ["body", "line", 1201]
        assert reason in first["msg"]
        assert await stored(redis, keys) == before
    assert (await deployment.stats())["total"] == 0


async def test_a_line_with_many_errors_has_a_short_response(stack: Start) -> None:
    deployment = await stack(workers=0)
    message = {"role": "user", "content": "x"}
    zeros = {**chat("x"), "messages": [0] * 5000}
    fields = {**chat("x"), **{f"field {n}": n for n in range(5000)}}
    long = {**chat("x"), "messages": [message] * 10_001}

    for line, said in (
        (zeros, "should be an object"),
        (fields, "5000 errors"),
        (long, "at most 10000"),
    ):
        answer = await deployment.api.post("/jobs", content=json.dumps(line), headers=NDJSON)

        assert answer.status_code == 422
        [detail] = answer.json()["detail"]
        assert said in detail["msg"]


async def test_a_page_of_another_site_can_send_nothing(stack: Start) -> None:
    """A browser sends a body without a type to other sites without a preflight request."""
    deployment = await stack(workers=0)
    body = json.dumps({"requests": [chat("x")]}).encode()
    origin = {"Origin": "https://example.com"}

    for path in ("/batch?mode=async", "/jobs"):
        by_program = await deployment.api.post(path, content=body)
        by_page = await deployment.api.post(path, content=body, headers=origin)

        assert (by_program.status_code, by_page.status_code) == (202, 403)


async def test_an_empty_body_is_refused(stack: Start) -> None:
    deployment = await stack(workers=0)

    for body in (b"", b"\n\r\n  \n"):
        answer = await deployment.api.post("/jobs", content=body, headers=NDJSON)

        assert answer.status_code == 422


@pytest.mark.parametrize(
    ("setting", "said"), [("MAX_JOB_ITEMS", "1300 requests"), ("MAX_JOB_BYTES", "1300 bytes")]
)
async def test_a_job_over_a_limit_is_refused_and_nothing_runs(
    stack: Start, redis: ArqRedis, keys: Keys, setting: str, said: str
) -> None:
    deployment = await stack(workers=1, **{setting: "1300"})
    before = await stored(redis, keys)

    answer = await deployment.api.post("/jobs", content=lines(["x"] * 1301), headers=NDJSON)

    assert answer.status_code == 413
    assert said in answer.json()["detail"]
    assert await stored(redis, keys) == before
    assert (await deployment.stats())["total"] == 0


async def test_another_content_type_is_refused(stack: Start) -> None:
    deployment = await stack(workers=0)

    answer = await deployment.api.post("/jobs", content="x", headers={"Content-Type": "text/csv"})

    assert answer.status_code == 415


async def begin_upload(deployment: Stack, redis: ArqRedis, keys: Keys) -> asyncio.StreamWriter:
    """Sends a part of an upload, and returns when some of its items are in Redis."""
    url = deployment.api.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    body = lines(["x" * 1000] * 700)
    writer.write(
        b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        b"Content-Length: %d\r\n\r\n" % (10 * len(body)) + body
    )

    async def staged() -> bool:
        return any(key.startswith(keys.payloads("")) for key in await stored(redis, keys))

    await eventually(staged)
    return writer


async def test_an_aborted_upload_leaves_nothing(stack: Start, redis: ArqRedis, keys: Keys) -> None:
    deployment = await stack(workers=1)
    before = await stored(redis, keys)
    writer = await begin_upload(deployment, redis, keys)

    writer.transport.abort()

    async def nothing() -> bool:
        return await stored(redis, keys) == before

    await eventually(nothing)
    assert (await deployment.stats())["total"] == 0


async def test_an_upload_of_a_killed_api_expires(stack: Start, redis: ArqRedis, keys: Keys) -> None:
    deployment = await stack(workers=1)
    before = await stored(redis, keys)
    writer = await begin_upload(deployment, redis, keys)

    deployment.api_process.kill()
    await deployment.api_process.wait()
    writer.close()
    # The next uploads remove what is counted of an upload that has expired.
    left = await stored(redis, keys) - before - {keys.queue_bytes, keys.staged_uploads}
    await deployment.start_api()
    await deployment.ready(1)
    other = await upload(deployment.api, lines(["y"]))

    assert left
    assert {0 < await redis.ttl(key) <= STAGING_TTL_S for key in left} == {True}
    assert (await wait_completed(deployment.api, other))["successful"] == 1
    assert (await deployment.stats())["total"] == 1  # no item of the aborted upload has run


async def test_a_prompt_is_stored_once_and_deleted_after_its_answer(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=0)
    location = await upload(deployment.api, lines(["planted"] * 3))
    waiting = await occurrences(redis, keys, b"planted")

    await deployment.add_worker()
    await wait_completed(deployment.api, location)

    assert waiting == 3
    # The answer repeats the prompt, but is longer.
    assert await occurrences(redis, keys, b'"planted"') == 0


async def test_a_large_upload_uses_little_memory(stack: Start) -> None:
    """The upload has 100,000 lines and 200 MB."""
    deployment = await stack(workers=0)
    api = psutil.Process(deployment.api_process.pid)
    block = lines(["x" * 1920] * 100)
    assert len(block) * 1000 > 200 * MB
    idle = peak = api.memory_info().rss

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal peak
        for _ in range(1000):
            peak = max(peak, api.memory_info().rss)
            yield block

    answer = await deployment.api.post("/jobs", content=chunks(), headers=NDJSON, timeout=120)

    assert answer.status_code == 202
    assert answer.json()["queued"] == 100_000
    # The status of a large job is as small as the status of a small job.
    assert len(answer.content) < 1000
    assert peak - idle < 60 * MB
    cancelled = await deployment.api.delete(answer.headers["location"])
    assert (cancelled.json()["status"], cancelled.json()["failed"]) == ("cancelled", 100_000)
