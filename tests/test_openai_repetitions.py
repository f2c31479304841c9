"""Tests that a repeated request creates no second file or batch."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.openai_batches import CHAT, create, error, line, upload
from support.providers import combined
from support.stack import chat

from shared.jobs.batch_details import BatchDetails
from shared.jobs.batch_store import BatchStore
from shared.jobs.new_item import native_items
from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.jobs.submission import Fingerprint, JobPolicy, Submission
from shared.models import LLMRequest
from shared.providers import PROVIDERS, Catalogue
from shared.queue.redis_keys import Keys
from shared.settings import ProviderSettings


@pytest.fixture
def catalogue(providers: dict[str, ProviderSettings]) -> Catalogue:
    return combined({name: PROVIDERS[name] for name in providers}, providers).catalogue


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
