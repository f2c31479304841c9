"""Tests batches whose file has mistakes."""

import json

import httpx
import pytest
from arq.connections import ArqRedis
from support.in_process import running_api
from support.openai_batches import MODEL, create, created, error, line, upload
from support.providers import combined

from api.openai import request_check
from shared.jobs import batch_store
from shared.providers import PROVIDERS, Catalogue
from shared.queue.redis_keys import Keys
from shared.settings import ProviderSettings, Settings


@pytest.fixture
def catalogue(providers: dict[str, ProviderSettings]) -> Catalogue:
    return combined({name: PROVIDERS[name] for name in providers}, providers).catalogue


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
