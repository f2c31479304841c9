"""Tests `/v1/files` and `/v1/batches`. tests/foreign/ has the tests with OpenAI's own client."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.authentication import ANN, API_KEYS, BOB
from support.claims import claim
from support.in_process import running_api
from support.jobs import NDJSON
from support.providers import combined
from support.stack import chat, eventually

from api.openai import request_check, result_sums
from shared.files import blocks
from shared.files.store import (
    FileExpired,
    FileInfo,
    FileLimits,
    FileStore,
    FileUpload,
    Repetition,
    UploadScripts,
)
from shared.jobs import batch_store
from shared.jobs.batch_details import BatchDetails
from shared.jobs.batch_store import BatchStore
from shared.jobs.new_item import native_items
from shared.jobs.service import Jobs
from shared.jobs.staging import STAGING_TTL_S
from shared.jobs.store import Store
from shared.jobs.submission import Fingerprint, JobPolicy, Submission
from shared.models import LLMRequest
from shared.providers import PROVIDERS, Catalogue
from shared.queue.claims import Queue
from shared.queue.ids import batch_id
from shared.queue.redis_keys import Keys
from shared.redis.client import RedisUnavailable
from shared.redis.memory import RedisMemory
from shared.redis.time_index import Place, TimeIndex
from shared.settings import ProviderSettings, Settings

CHAT = "/v1/chat/completions"
MODEL = "openrouter/m"
RUNNING = {"in_progress", "cancelling"}
NO_LIMIT = FileLimits(max_bytes=10**9, max_queue_bytes=10**9)


@pytest.fixture
def catalogue(providers: dict[str, ProviderSettings]) -> Catalogue:
    return combined({name: PROVIDERS[name] for name in providers}, providers).catalogue


@pytest.fixture
async def api(settings: Settings, catalogue: Catalogue) -> AsyncIterator[httpx.AsyncClient]:
    async with running_api(settings, catalogue) as client:
        yield client


def line(custom_id: str, *, url: str = CHAT, **body: Any) -> str:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


async def upload(
    api: httpx.AsyncClient, *lines: str | bytes, purpose: str = "batch", **fields: str
) -> Any:
    content = b"\n".join(part if isinstance(part, bytes) else part.encode() for part in lines)
    answer = await api.post(
        "/v1/files", files={"file": content}, data={"purpose": purpose, **fields}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def create(
    api: httpx.AsyncClient, file_id: str, headers: dict[str, str] | None = None, **options: Any
) -> httpx.Response:
    new = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h", **options}
    return await api.post("/v1/batches", json=new, headers=headers)


async def created(api: httpx.AsyncClient, *lines: str | bytes, **options: Any) -> Any:
    answer = await create(api, (await upload(api, *lines))["id"], **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ended(api: httpx.AsyncClient, batch_id: str) -> Any:
    batch: Any = None

    async def has_ended() -> bool:
        nonlocal batch
        batch = (await api.get(f"/v1/batches/{batch_id}")).json()
        return batch["status"] not in RUNNING

    await eventually(has_ended)
    return batch


async def content(api: httpx.AsyncClient, file_id: str) -> list[Any]:
    answer = await api.get(f"/v1/files/{file_id}/content")
    assert answer.status_code == 200, answer.text
    return [json.loads(text) for text in answer.text.splitlines()]


def error(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    reason = answer.json()["error"]
    return answer.status_code, reason["code"], reason["param"]


@pytest.mark.usefixtures("worker")
async def test_a_batch_is_a_job(api: httpx.AsyncClient) -> None:
    batch = await created(api, line("b"), line("a"), metadata={"key": "value"})
    batch = await ended(api, batch["id"])
    job = (await api.get(f"/jobs/{batch['id']}")).json()
    results = await content(api, batch["output_file_id"])

    at = batch["created_at"]
    done_at = batch["completed_at"]
    assert batch == {
        "id": f"batch_{job['job_id']}",
        "object": "batch",
        "endpoint": CHAT,
        "model": MODEL,
        "errors": None,
        "input_file_id": batch["input_file_id"],
        "completion_window": "24h",
        "status": "completed",
        "output_file_id": f"file-{job['job_id']}-output",
        "error_file_id": None,
        "created_at": at,
        "in_progress_at": at,
        "expires_at": at + 86_400,
        "finalizing_at": done_at,
        "completed_at": done_at,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 2, "completed": 2, "failed": 0},
        "usage": batch["usage"],
        "metadata": {"key": "value"},
    }
    bodies = [result["response"]["body"] for result in results]
    tokens = [
        sum(body["usage"][name] for body in bodies) for name in ("prompt_tokens", "total_tokens")
    ]
    assert batch["usage"] == {
        "input_tokens": tokens[0],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens[1] - tokens[0],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens[1],
    }
    assert [result["custom_id"] for result in results] == ["b", "a"]
    assert (job["status"], job["format"]) == ("completed", "openai-batch")
    assert [item["body"] for item in job["responses"]] == bodies


@pytest.mark.usefixtures("worker")
async def test_the_usage_of_answers_larger_than_a_page(
    monkeypatch: pytest.MonkeyPatch, api: httpx.AsyncClient
) -> None:
    monkeypatch.setattr(batch_store, "_PAGE_BYTES", 2000)
    texts = ["a b c", "word " * 1000, "a"]
    lines = [
        line(str(number), messages=[{"role": "user", "content": text}])
        for number, text in enumerate(texts)
    ]

    batch = await ended(api, (await created(api, *lines))["id"])

    usage = [
        answer["response"]["body"]["usage"]
        for answer in await content(api, batch["output_file_id"])
    ]
    assert batch["usage"]["total_tokens"] == sum(entry["total_tokens"] for entry in usage) > 2000


@pytest.mark.usefixtures("worker")
async def test_a_job_is_a_batch(api: httpx.AsyncClient) -> None:
    request = {"provider": "ollama", "model": "m", "messages": [{"role": "user", "content": "hi"}]}
    native = await api.post("/jobs", json={"requests": [{**request, "request_id": "x"}]})
    timed = await api.post("/jobs", content=line("a"), headers=NDJSON, params={"deadline_s": 600})
    waited = await api.post("/batch", json={"requests": [request]})
    assert waited.status_code == 200

    ids = [answer.json()["job_id"] for answer in (native, timed)]
    batches = [await ended(api, job_id) for job_id in ids]
    listed = (await api.get("/v1/batches")).json()

    assert [batch["completion_window"] for batch in batches] == ["none", "600s"]
    [result] = await content(api, batches[0]["output_file_id"])
    assert result["custom_id"] == "x"
    assert result["response"]["body"]["choices"][0]["message"]["content"] == "echo: hi"
    assert [batch["id"] for batch in listed["data"]] == [f"batch_{job_id}" for job_id in ids[::-1]]


MISTAKES: list[tuple[str | bytes, str, str | None]] = [
    ("{", "invalid_json_line", None),
    ("[1]", "invalid_json_line", None),
    (b'{"custom_id": "\xff"}', "invalid_json_line", None),
    (
        '{"custom_id": "x", "method": "POST", "url": "/v1/chat/completions"}',
        "missing_required_parameter",
        "body",
    ),
    (
        '{"method": "POST", "url": "/v1/chat/completions", "body": {}}',
        "missing_required_parameter",
        "custom_id",
    ),
    (
        '{"custom_id": "x", "method": "GET", "url": "/v1/chat/completions", "body": {}}',
        "invalid_method",
        "method",
    ),
    (
        '{"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": {}}',
        "missing_required_parameter",
        "body.model",
    ),
    (line("x", url="/v1/audio"), "invalid_url", "url"),
    (line("first"), "duplicate_custom_id", "custom_id"),
    (line("x", model="unknown"), "model_not_found", "body.model"),
    (
        json.dumps({**json.loads(line("x")), "body": {"model": MODEL}}),
        "missing_required_parameter",
        "body",
    ),
]


async def test_mistakes(api: httpx.AsyncClient) -> None:
    """A file may have a byte order mark, CRLF and empty lines; these are no mistakes."""
    given = [text if isinstance(text, bytes) else text.encode() for text, _, _ in MISTAKES]
    file_content = b"\r\n".join([b"\xef\xbb\xbf" + line("first").encode(), b"", *given, b"", b""])
    file = await upload(api, file_content)
    batch = (await create(api, file["id"])).json()
    found = [(m["line"], m["code"], m["param"]) for m in batch["errors"]["data"]]

    assert file["status"] == "processed"
    assert file["status_details"].startswith("line 3: ")
    assert (batch["status"], batch["failed_at"]) == ("failed", batch["created_at"])
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert found == [(n, code, param) for n, (_, code, param) in enumerate(MISTAKES, 3)]
    assert (await api.get(f"/v1/batches/{batch['id']}")).json() == batch
    assert (await api.get("/v1/batches")).json()["data"] == [batch]
    assert (await api.get("/jobs")).json()["jobs"] == []
    assert (await api.get(f"/jobs/{batch['id']}")).status_code == 404
    assert error(await api.post(f"/v1/batches/{batch['id']}/cancel"))[0] == 400


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        ([], ("empty_file", None)),
        (["\n \n"], ("empty_file", None)),
        ([line("a"), line("b", url="/v1/embeddings", input="x")], ("mismatched_url", 2)),
        ([line("a"), line("b" * 20_000)], ("invalid_json_line", 2)),
        ([line(str(number)) for number in range(4)], ("too_many_requests", 4)),
    ],
)
async def test_files_that_are_not_batches(
    settings: Settings,
    catalogue: Catalogue,
    redis: ArqRedis,
    keys: Keys,
    lines: list[str],
    mistake: tuple[str, int | None],
) -> None:
    limits = settings.model_copy(update={"max_job_items": 3, "max_line_bytes": 10_000})
    async with running_api(limits, catalogue) as api:
        batch = await created(api, *lines)

    [found] = batch["errors"]["data"]
    assert (found["code"], found["line"]) == mistake
    assert [key async for key in redis.scan_iter(match=f"{keys.payloads('')}*")] == []


async def test_the_first_mistakes_are_kept(
    monkeypatch: pytest.MonkeyPatch, api: httpx.AsyncClient
) -> None:
    monkeypatch.setattr(request_check, "MAX_MISTAKES", 3)
    text = "\n".join("[]" for _ in range(10))
    file = await upload(api, text)

    batch = (await create(api, file["id"])).json()
    stored = await api.get(f"/v1/files/{file['id']}/content")

    assert len(batch["errors"]["data"]) == 3
    assert stored.text == text


async def test_the_oldest_rejected_batches_are_removed(
    monkeypatch: pytest.MonkeyPatch, api: httpx.AsyncClient, redis: ArqRedis, keys: Keys
) -> None:
    monkeypatch.setattr(batch_store, "MAX_REJECTED", 2)
    file = await upload(api, "[]")
    oldest, *newest = [(await create(api, file["id"])).json()["id"] for _ in range(3)]
    accepted = await created(api, line("a"))

    listed = (await api.get("/v1/batches")).json()["data"]

    assert [batch["id"] for batch in listed] == [accepted["id"], *newest[::-1]]
    assert (await api.get(f"/v1/batches/{oldest}")).status_code == 404
    assert await redis.zcard(keys.job_expirations) == 2


async def test_a_full_queue_refuses_a_batch(settings: Settings, catalogue: Catalogue) -> None:
    limited = settings.model_copy(update={"max_queue_depth": 1})
    async with running_api(limited, catalogue) as api:
        answer = await create(api, (await upload(api, line("a"), line("b")))["id"])

    assert error(answer) == (429, "rate_limit_exceeded", None)
    assert answer.headers["x-should-retry"] == "true"


async def test_the_provider_can_be_in_the_url(api: httpx.AsyncClient) -> None:
    files = {"file": line("a", model="m").encode()}
    data, query = {"purpose": "batch"}, {"provider": "ollama"}
    with_query = (await api.post("/v1/files", files=files, data=data, params=query)).json()
    without = (await api.post("/v1/files", files=files, data=data)).json()

    new = {"endpoint": CHAT, "completion_window": "24h"}
    batches = [
        (
            await api.post("/v1/batches", json={**new, "input_file_id": file["id"]}, params=query)
        ).json()
        for file in (with_query, without)
    ]

    assert (with_query["status_details"], without["status_details"] is None) == (None, False)
    assert [batch["status"] for batch in batches] == ["in_progress"] * 2
    assert batches[0]["model"] == "ollama/m"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"endpoint": "/v1/audio"}, "endpoint"),
        ({"completion_window": "59s"}, "completion_window"),
        ({"completion_window": "31d"}, "completion_window"),
        ({"completion_window": "1 day"}, "completion_window"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata." + "k" * 65 + ".[key]"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 60}},
            "output_expires_after.seconds",
        ),
        ({"webhook_url": "https://example.org"}, "webhook_url"),
        ({"unknown": 1}, "unknown"),
        ({"input_file_id": None}, "input_file_id"),
    ],
)
async def test_options_that_are_refused(
    api: httpx.AsyncClient, options: dict[str, Any], param: str
) -> None:
    file = await upload(api, line("a"))

    assert error(await create(api, file["id"], **options)) == (400, None, param)


async def test_windows_and_metadata_at_their_limits(api: httpx.AsyncClient) -> None:
    metadata = {f"{n:064}": "é" * 512 for n in range(16)}
    for window, seconds in (("60s", 60), ("1m", 60), ("30d", 30 * 86_400), ("720h", 30 * 86_400)):
        batch = await created(api, line("a"), completion_window=window, metadata=metadata)

        assert batch["expires_at"] - batch["created_at"] in {seconds, seconds + 1}
        assert batch["metadata"] == metadata


async def test_input_files_that_are_refused(api: httpx.AsyncClient) -> None:
    other = await upload(api, b"%PDF \xff", purpose="user_data")

    assert error(await create(api, other["id"])) == (400, None, "input_file_id")
    assert other["status_details"] is None
    for file_id in ("file-x", "", "file-" + "0" * 32, "x:y"):
        assert error(await create(api, file_id)) == (404, None, "input_file_id")


async def test_an_idempotency_key_returns_the_same_batch(api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    files = [(await upload(api, line("a")))["id"] for _ in range(2)]

    first, second = [(await create(api, file, headers=key)).json() for file in files]
    other = await create(api, files[0], headers=key, metadata={"x": "y"})

    assert first["id"] == second["id"]
    assert error(other) == (400, None, "Idempotency-Key")


async def test_a_repeated_request_returns_the_batch_of_the_first(api: httpx.AsyncClient) -> None:
    """OpenAI's client sends no key, but says that it repeats a request."""
    file, repeated = await upload(api, line("a")), {"x-stainless-retry-count": "1"}

    first = (await create(api, file["id"])).json()
    ids = [
        (await create(api, file["id"], **options)).json()["id"]
        for options in (
            {"headers": repeated},
            {"headers": {"x-stainless-retry-count": "0"}},
            {"headers": repeated, "metadata": {"x": "y"}},
        )
    ]

    assert ids[0] == first["id"]
    assert len({first["id"], *ids}) == 3


@pytest.mark.parametrize("has_mistakes", [False, True])
async def test_a_repetition_that_is_faster_than_the_first_request(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys, *, has_mistakes: bool
) -> None:
    """The first request gets the batch of its repetition, once."""
    file = await upload(api, "[]" if has_mistakes else line("a"))
    details = BatchDetails(CHAT, "24h", file["id"])
    request = Submission(batch=details, file_use="digest")
    store = Store(redis, keys)
    jobs = Jobs(store, JobPolicy(60, 60, max_queue_depth=100))
    batches = BatchStore(redis, keys, store, result_ttl_s=60)

    async def created(submission: Submission) -> str:
        if has_mistakes:
            return await batches.reject(jobs.new_id(), details, submission, [])
        items = native_items([LLMRequest.model_validate_json(json.dumps(chat("a")))])
        return await jobs.submit(jobs.new_id(), items, submission)

    batch = await created(replace(request, is_repetition=True))
    late = [await created(request) for _ in range(2)]
    seen = [await created(replace(request, file_seen=late[1])) for _ in range(2)]
    repeated = await created(replace(request, is_repetition=True, file_seen=batch))

    assert late[0] == batch
    assert len({batch, late[1], *seen}) == 4
    assert repeated == seen[-1]


@pytest.mark.parametrize("text", [line("a"), "[]"])
async def test_a_repetition_is_in_the_list_once(api: httpx.AsyncClient, text: str) -> None:
    file = await upload(api, text)
    answers = [
        await create(api, file["id"], headers={"x-stainless-retry-count": count}) for count in "012"
    ]

    [listed] = (await api.get("/v1/batches")).json()["data"]

    assert {answer.json()["id"] for answer in answers} == {listed["id"]}


def test_a_fingerprint_does_not_depend_on_the_file() -> None:
    def fingerprint(**options: Any) -> str:
        details = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": "a", **options}
        return Fingerprint(Submission(batch=BatchDetails(**details))).hexdigest()

    assert fingerprint() == fingerprint(input_file_id="b")
    assert fingerprint() != fingerprint(endpoint="/v1/embeddings")


async def test_cancelling(api: httpx.AsyncClient) -> None:
    batch = await created(api, line("a"), line("b"))
    cancelled = (await api.post(f"/v1/batches/{batch['id']}/cancel")).json()
    again = (await api.post(f"/v1/batches/{batch['id']}/cancel")).json()
    results = await content(api, cancelled["error_file_id"])

    assert (cancelled["status"], cancelled["output_file_id"]) == ("cancelled", None)
    assert cancelled["cancelled_at"] == cancelled["cancelling_at"] >= batch["created_at"]
    assert cancelled["request_counts"] == {"total": 2, "completed": 0, "failed": 2}
    assert again == cancelled
    assert [(r["custom_id"], r["response"], r["error"]["code"]) for r in results] == [
        ("a", None, "batch_cancelled"),
        ("b", None, "batch_cancelled"),
    ]
    assert (await api.get(f"/jobs/{batch['id']}")).json()["status"] == "cancelled"


async def test_a_cancelled_batch_waits_for_its_calls(
    api: httpx.AsyncClient,
    redis: ArqRedis,
    keys: Keys,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No worker runs, so the call is not stopped: its lease has to expire."""
    monkeypatch.setattr(batch_store, "_READ_LEASES", 2)  # the lease is in the second part
    await created(api, line("a"), line("b"), line("c"))
    await claim(queue, openrouter=3)
    batch = await created(api, line("a"), line("b"))
    [lease] = await claim(queue, openrouter=4)

    cancelled = (await api.post(f"/v1/batches/{batch['id']}/cancel")).json()
    listed = (await api.get("/v1/batches")).json()["data"]
    await redis.zadd(keys.leases("openrouter"), {lease.lease_id: 1})
    expired = (await api.get(f"/v1/batches/{batch['id']}")).json()

    assert (cancelled["status"], cancelled["cancelled_at"]) == ("cancelling", None)
    assert cancelled["cancelling_at"] is not None
    assert listed[0] == cancelled
    assert expired["status"] == "cancelled"


# Files


async def test_a_repeated_upload_is_the_same_file(api: httpx.AsyncClient) -> None:
    """The response to the first upload was lost. OpenAI's clients send no idempotency key."""
    again = {"x-stainless-retry-count": "1"}

    async def upload_id(content: str = line("a"), name: str = "f", **headers: str) -> str:
        answer = await api.post(
            "/v1/files",
            files={"file": (name, content.encode())},
            data={"purpose": "batch"},
            headers=headers,
        )
        return str(answer.json()["id"])

    first = await upload_id()
    second = await upload_id()  # no repetition
    assert await upload_id(**again) == second
    others = [await upload_id(line("b"), **again), await upload_id(name="g", **again)]
    await create(api, second)
    third = await upload_id(**again)  # the client knew the second file, because it has used it
    await api.delete(f"/v1/files/{third}")
    fourth = await upload_id(**again)

    assert len({first, second, *others, third, fourth}) == 6
    listed = (await api.get("/v1/files?purpose=batch")).json()["data"]
    assert {file["id"] for file in listed} == {first, second, *others, fourth}


async def test_an_upload_with_an_idempotency_key_is_one_file(api: httpx.AsyncClient) -> None:
    async def posted(content: str) -> httpx.Response:
        return await api.post(
            "/v1/files",
            files={"file": content.encode()},
            data={"purpose": "batch"},
            headers={"Idempotency-Key": "k"},
        )

    first = (await posted(line("a"))).json()
    await create(api, first["id"])

    assert (await posted(line("a"))).json() == first
    other = await posted(line("b"))
    assert other.status_code == 400
    assert "this Idempotency-Key was used before" in other.json()["error"]["message"]
    assert len((await api.get("/v1/files?purpose=batch")).json()["data"]) == 1


async def test_a_file_keeps_every_byte(api: httpx.AsyncClient) -> None:
    data = bytes(range(256)) * 3000 + b"\r\n--boundary\r\n"  # more than one block
    assert len(data) > blocks.BLOCK_BYTES
    answer = await api.post(
        "/v1/files",
        files={"file": ("näme.bin", data)},
        data={
            "purpose": "user_data",
            "expires_after[anchor]": "created_at",
            "expires_after[seconds]": "3600",
        },
    )
    file = answer.json()
    stored = await api.get(f"/v1/files/{file['id']}/content")

    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(data),
        "created_at": file["created_at"],
        "expires_at": file["expires_at"],
        "filename": "näme.bin",
        "purpose": "user_data",
        "status": "processed",
        "status_details": None,
    }
    assert file["expires_at"] - file["created_at"] in {3600, 3601}
    assert stored.content == data
    assert stored.headers["content-length"] == str(len(data))
    assert (await api.get(f"/v1/files/{file['id']}")).json() == file


@pytest.mark.parametrize("data", [b"x" * 1000, bytes(range(256)), b""])
def test_blocks(data: bytes) -> None:
    block = blocks.pack(data)

    assert blocks.unpack(block) == data
    assert len(block) <= len(data) + 1


async def test_a_deleted_file_is_gone(api: httpx.AsyncClient, redis: ArqRedis, keys: Keys) -> None:
    file = await upload(api, line("a"))
    batch = (await create(api, file["id"])).json()

    deleted = await api.delete(f"/v1/files/{file['id']}")
    again = await api.delete(f"/v1/files/{file['id']}")

    assert deleted.json() == {"id": file["id"], "object": "file", "deleted": True}
    assert error(again) == error(await api.get(f"/v1/files/{file['id']}")) == (404, None, None)
    assert (await api.get("/v1/files")).json()["data"] == []
    assert (await api.get(f"/v1/batches/{batch['id']}")).json()["status"] == "in_progress"
    left = {key.decode() async for key in redis.scan_iter(match=f"{keys.prefix}file*")}
    assert left == set()


@pytest.mark.usefixtures("worker")
async def test_a_deleted_output_file_is_gone(api: httpx.AsyncClient) -> None:
    batch = await ended(api, (await created(api, line("a")))["id"])
    path = f"/v1/files/{batch['output_file_id']}"
    file, stored = (await api.get(path)).json(), await api.get(f"{path}/content")

    assert (file["purpose"], file["bytes"]) == ("batch_output", len(stored.content))
    assert (await api.delete(path)).json()["deleted"] is True
    assert [(await api.get(url)).status_code for url in (path, f"{path}/content")] == [404, 404]
    assert (await api.get(f"/jobs/{batch['id']}")).json()["successful"] == 1


async def test_expired_files_are_forgotten(
    settings: Settings, catalogue: Catalogue, redis: ArqRedis, keys: Keys, queue: Queue
) -> None:
    async with running_api(settings.model_copy(update={"file_ttl_seconds": 1}), catalogue) as api:
        file = await upload(api, line("a"))
        assert await redis.hexists(keys.file_bytes, "")  # type: ignore[misc]

        async def is_gone() -> bool:
            return (await api.get(f"/v1/files/{file['id']}")).status_code == 404

        await eventually(is_gone)
        assert (await api.get("/v1/files")).json()["data"] == []
        await queue.expire_overdue()

    assert {key async for key in redis.scan_iter(match=f"{keys.prefix}file*")} == set()


async def test_the_files_of_an_owner_are_limited(
    settings: Settings, catalogue: Catalogue, redis: ArqRedis, keys: Keys
) -> None:
    limits = {"max_stored_file_bytes": 2000, "max_file_bytes": 3000}
    async with running_api(settings.model_copy(update=limits), catalogue) as api:
        for size, status in ((3001, 413), (2500, 429), (1500, 200), (600, 429), (200, 200)):
            file = {"file": Random(size).randbytes(size)}
            answer = await api.post("/v1/files", files=file, data={"purpose": "user_data"})
            assert answer.status_code == status, (size, answer.text)
            retry = answer.headers.get("x-should-retry")
            assert retry == ("false" if status == 429 else None)

    blocks_left = [key async for key in redis.scan_iter(match=f"{keys.file_blocks('')}*")]
    assert len(blocks_left) == 2


async def test_the_blocks_of_an_upload_that_never_ends_expire(redis: ArqRedis, keys: Keys) -> None:
    """An API that is killed cannot discard the blocks."""
    scripts = UploadScripts(redis, keys)
    upload = FileUpload(redis, keys, scripts, "", NO_LIMIT, RedisMemory(redis))
    await upload.add(Random(0).randbytes(blocks.BLOCK_BYTES + 1))

    assert await redis.keys(f"{keys.prefix}file*") == [keys.file_blocks(upload.id).encode()]
    assert await redis.zcard(keys.staged_uploads) == 1
    assert 0 < await redis.ttl(keys.file_blocks(upload.id)) <= STAGING_TTL_S


async def test_an_upload_that_was_too_slow_is_refused(redis: ArqRedis, keys: Keys) -> None:
    files = FileStore(redis, keys, NO_LIMIT, RedisMemory(redis))
    async with files.upload("") as upload:
        await upload.add(Random(0).randbytes(blocks.BLOCK_BYTES + 1))
        await redis.delete(keys.file_blocks(upload.id))
        with pytest.raises(FileExpired):
            await upload.commit(
                FileInfo("name", "batch", upload.size), ttl_s=60, repetition=Repetition()
            )

    assert await redis.keys(f"{keys.prefix}file*") == []


async def test_redis_is_unavailable(settings: Settings) -> None:
    async with running_api(settings.model_copy(update={"redis_url": "unix:///nowhere"})) as api:
        answer = await api.get("/v1/batches")

    assert error(answer) == (503, "server_is_overloaded", None)
    assert (answer.headers["x-should-retry"], answer.headers["retry-after-ms"]) == ("true", "2000")


async def test_forms_that_are_refused(api: httpx.AsyncClient) -> None:
    file, purpose = {"file": b"x"}, {"purpose": "batch"}
    expiry = {"purpose": "batch", "expires_after[anchor]": "created_at"}
    kinds: list[tuple[dict[str, Any], int, str | None]] = [
        ({"files": file}, 400, "purpose"),
        ({"files": file, "data": {"purpose": "x"}}, 400, "purpose"),
        ({"files": file, "data": {**purpose, "x": "y"}}, 400, "x"),
        ({"files": file, "data": expiry}, 400, "expires_after.seconds"),
        (
            {"files": file, "data": {**expiry, "expires_after[seconds]": "60"}},
            400,
            "expires_after.seconds",
        ),
        ({"files": {"x": b"y"}, "data": purpose}, 400, "file"),
        ({"files": [("file", b"x"), ("file", b"y")], "data": purpose}, 400, "file"),
        ({"files": file, "data": {"purpose": "x" * 20_000}}, 400, "purpose"),
        ({"files": [(str(n), b"x") for n in range(21)]}, 400, None),
        ({"content": b"x"}, 415, None),
        ({"json": {}}, 415, None),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 415, None),
    ]
    boundary = {"content-type": "multipart/form-data; boundary=x"}
    unfinished = b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\nabc'
    kinds += [
        ({"content": body, "headers": boundary}, 400, None)
        for body in (b"", b"--y", b"--x\r\n", unfinished)
    ]

    for request, status, param in kinds:
        assert error(await api.post("/v1/files", **request)) == (status, None, param), request
    assert (await api.get("/v1/files")).json()["data"] == []


async def test_lists(api: httpx.AsyncClient) -> None:
    files = [(await upload(api, line("a")))["id"] for _ in range(5)]
    other = (await upload(api, b"x", purpose="user_data"))["id"]
    batches = [(await create(api, file)).json()["id"] for file in files]

    async def pages(path: str, **query: Any) -> list[list[str]]:
        found: list[list[str]] = []
        after: dict[str, str] = {}
        while True:
            page = (await api.get(path, params={**query, **after})).json()
            ids = [entry["id"] for entry in page["data"]]
            found.append(ids)
            assert (page["object"], page["first_id"], page["last_id"]) == ("list", ids[0], ids[-1])
            if not page["has_more"]:
                return found
            after = {"after": page["last_id"]}

    newest = files[::-1]
    assert await pages("/v1/files") == [[other, *newest]]
    assert await pages("/v1/files", limit=3, order="asc") == [files[:3], [*files[3:], other]]
    assert await pages("/v1/files", limit=5, purpose="batch") == [newest]
    assert await pages("/v1/files", limit=2, purpose="batch") == [
        newest[:2],
        newest[2:4],
        newest[4:],
    ]
    assert await pages("/v1/batches", limit=5) == [batches[::-1]]
    assert await pages("/v1/batches", limit=4) == [batches[:0:-1], batches[:1]]
    empty = (await api.get("/v1/files", params={"after": files[0]})).json()
    assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)
    for path in ("/v1/files", "/v1/batches"):
        assert error(await api.get(path, params={"after": "x"}))[0] == 404
        assert error(await api.get(path, params={"limit": 0})) == (400, None, "limit")


async def test_batches_that_are_created_while_a_list_is_read(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys
) -> None:
    """They would shift the positions of the others."""
    file = await upload(api, line("a"))
    ids = [(await create(api, file["id"])).json()["id"] for _ in range(6)]
    store = BatchStore(redis, keys, Store(redis, keys), result_ttl_s=60)
    index = store.index("", newest_first=True)

    found = []
    async for batch in store.read_list(index, "", None, 2):
        found.append(batch_id(batch.job_id))
        await create(api, file["id"])

    assert found == ids[::-1]


@pytest.mark.parametrize("newest_first", [False, True])
async def test_ids_at_the_same_time(redis: ArqRedis, keys: Keys, *, newest_first: bool) -> None:
    places = [Place(ms, f"{number:02}") for ms in (1.5, 2.5) for number in range(50)]
    await redis.zadd(keys.jobs_by_owner(""), {f"{p.ms} {p.member}": p.ms for p in places})
    index = TimeIndex(redis, keys.jobs_by_owner(""), newest_first=newest_first)
    found: list[Place] = []

    while page := await index.read(found[-1] if found else None, 7):
        found += page

    assert found == sorted(found, reverse=newest_first)
    assert {place.member for place in found} == {f"{p.ms} {p.member}" for p in places}
    assert await index.place("1.5 00") == Place(1.5, "1.5 00")
    assert await index.place("x") is None


@pytest.mark.usefixtures("worker")
async def test_files_of_results_are_listed_with_uploaded_files(api: httpx.AsyncClient) -> None:
    """Each file is on one page, whatever the size of the pages is, and its size is right."""
    lines = [line("a"), line("b", model="openrouter/sim-400")]
    both = await ended(api, (await created(api, *lines))["id"])
    answers = await ended(api, (await created(api, lines[0]))["id"])
    other = await upload(api, b"x", purpose="user_data")
    uploaded = [both["input_file_id"], answers["input_file_id"], other["id"]]
    results = [both["output_file_id"], both["error_file_id"], answers["output_file_id"]]
    oldest_first = [uploaded[0], *results[:2], uploaded[1], results[2], uploaded[2]]

    async def walk(limit: int, **query: Any) -> list[Any]:
        found: list[Any] = []
        while True:
            after = {"after": found[-1]["id"]} if found else {}
            page = (await api.get("/v1/files", params={"limit": limit, **query, **after})).json()
            found += page["data"]
            if not page["has_more"]:
                return found

    for limit in range(1, 7):
        listed = await walk(limit, order="asc")
        assert [file["id"] for file in listed] == oldest_first
        assert await walk(limit) == listed[::-1]
        assert [file["id"] for file in await walk(limit, purpose="batch_output")] == results[::-1]
        batches = await walk(limit, purpose="batch", order="asc")
        assert [file["id"] for file in batches] == uploaded[:2]
        assert await walk(limit, purpose="assistants_output") == []
    for file in listed:
        content = await api.get(f"/v1/files/{file['id']}/content")
        assert file == (await api.get(f"/v1/files/{file['id']}")).json()
        assert file["bytes"] == len(content.content)

    await api.delete(f"/v1/files/{results[0]}")
    assert [file["id"] for file in await walk(2)] == [
        file_id for file_id in oldest_first[::-1] if file_id != results[0]
    ]
    rest = await api.get("/v1/files", params={"after": results[0], "order": "asc"})
    assert [file["id"] for file in rest.json()["data"]] == oldest_first[2:]


@pytest.mark.usefixtures("worker")
async def test_a_list_has_the_usage_of_its_batches(api: httpx.AsyncClient) -> None:
    batch = await created(api, line("a"))

    async def listed() -> Any:
        [found] = (await api.get("/v1/batches")).json()["data"]
        return found

    async def has_ended() -> bool:
        return bool((await listed())["status"] == "completed")

    await eventually(has_ended)
    found = await listed()

    assert found["usage"]["total_tokens"] > 0
    assert found == (await api.get(f"/v1/batches/{batch['id']}")).json()


@pytest.mark.usefixtures("worker")
async def test_a_list_does_not_wait_for_long_sums(
    monkeypatch: pytest.MonkeyPatch, api: httpx.AsyncClient
) -> None:
    """The sums continue, so that a later list has the usage and the sizes."""
    batch = await ended(api, (await created(api, line("a")))["id"])
    job = (await api.post("/jobs", json={"requests": [chat("a")]})).json()
    await ended(api, job["job_id"])
    monkeypatch.setattr(result_sums, "WAIT_S", 0)

    async def values() -> list[Any]:
        batches = (await api.get("/v1/batches")).json()["data"]
        files = (await api.get("/v1/files", params={"purpose": "batch_output"})).json()["data"]
        assert len(batches) == len(files) == 2
        return [*(entry["usage"] for entry in batches), *(file["bytes"] for file in files)]

    async def has_values() -> bool:
        return all(await values())

    await eventually(has_values)
    assert (await values())[1] == batch["usage"]


async def test_sums_are_limited_and_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_sums, "WAIT_S", 0)
    monkeypatch.setattr(result_sums, "MAX_SUMS", 2)
    started: list[str] = []
    released = asyncio.Event()

    def compute(name: str) -> Callable[[], Awaitable[str]]:
        async def waiting() -> str:
            started.append(name)
            await released.wait()
            if name == "b":
                raise RedisUnavailable("gone")
            return name

        return waiting

    wanted = {name: compute(name) for name in "abc"}
    async with result_sums.running_sums() as running:
        assert await running.gather(wanted) == {}
        assert await running.gather(wanted) == {}
        released.set()
        monkeypatch.setattr(result_sums, "WAIT_S", 30)
        assert await running.gather(wanted) == {"a": "a"}
        assert await running.gather({"c": wanted["c"]}) == {"c": "c"}

    assert started == ["a", "b", "c"]


async def test_owners(settings: Settings, catalogue: Catalogue) -> None:
    api_keys = Settings(_env_file=None, api_keys=API_KEYS).api_keys
    async with running_api(
        settings.model_copy(update={"api_keys": api_keys}),
        catalogue,
        headers={"authorization": f"Bearer {ANN}"},
    ) as api:
        file = await upload(api, line("a"))
        batch = (await create(api, file["id"])).json()
        job_id = batch["id"].removeprefix("batch_")
        api.headers["authorization"] = f"Bearer {BOB}"
        answers = [
            await create(api, file["id"]),
            await api.get("/v1/files", params={"after": file["id"]}),
            await api.get("/v1/batches", params={"after": batch["id"]}),
            await api.post(f"/v1/batches/{batch['id']}/cancel"),
            await api.delete(f"/v1/files/{file['id']}"),
            await api.delete(f"/v1/files/file-{job_id}-output"),
        ]
        paths = (
            f"/v1/files/{file['id']}",
            f"/v1/files/{file['id']}/content",
            f"/v1/files/file-{job_id}-errors",
            f"/v1/files/file-{job_id}-output/content",
            f"/v1/batches/{batch['id']}",
        )
        answers += [await api.get(path) for path in paths]
        lists = [(await api.get(path)).json()["data"] for path in ("/v1/files", "/v1/batches")]
        api.headers["authorization"] = f"Bearer {ANN}"
        status = (await api.get(f"/v1/batches/{batch['id']}")).json()["status"]

    assert {answer.status_code for answer in answers} == {404}
    assert lists == [[], []]
    assert status == "in_progress"
