"""Tests `/v1/batches`. tests/foreign/ has the tests with OpenAI's own client."""

from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.authentication import ANN, API_KEYS, BOB
from support.claims import claim
from support.in_process import running_api
from support.jobs import NDJSON
from support.openai_batches import CHAT, MODEL, content, create, created, ended, error, line, upload
from support.providers import combined

from shared.jobs import batch_store
from shared.providers import PROVIDERS, Catalogue
from shared.queue import leases_of_jobs
from shared.queue.claims import Queue
from shared.queue.redis_keys import Keys
from shared.settings import ProviderSettings, Settings


@pytest.fixture
def catalogue(providers: dict[str, ProviderSettings]) -> Catalogue:
    return combined({name: PROVIDERS[name] for name in providers}, providers).catalogue


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
    monkeypatch.setattr(leases_of_jobs, "_READ_LEASES", 2)  # the lease is in the second part
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


async def test_redis_is_unavailable(settings: Settings) -> None:
    async with running_api(settings.model_copy(update={"redis_url": "unix:///nowhere"})) as api:
        answer = await api.get("/v1/batches")

    assert error(answer) == (503, "server_is_overloaded", None)
    assert (answer.headers["x-should-retry"], answer.headers["retry-after-ms"]) == ("true", "2000")


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
