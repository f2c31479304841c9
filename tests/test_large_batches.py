"""Tests that a large batch, which is read request by request, is answered like a small one."""

import json
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from support.stack import chat

from shared.event_loop_yield import LARGE_BYTES
from shared.queue.redis_keys import Keys

SPACES = b" " * LARGE_BYTES
JSON = {"Content-Type": "application/json"}


def batch(*requests: object, **options: object) -> bytes:
    return json.dumps({**options, "requests": requests}).encode()


ANTHROPIC = {
    "custom_id": "a",
    "params": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
}
WRONG: list[bytes] = [
    b"",
    b"{}",
    b"[]",
    b"null",
    batch(),
    batch(1, None, "x", []),
    batch(chat("x"), chat("", temperature=3), chat("x", model="")),
    batch(chat("x"), chat("y", unknown=1), unknown=2, deadline_s=-1),
    batch(chat("x", provider="nobody")),
    batch(chat("x", request_id="a"), chat("y"), chat("z", request_id="a")),
    batch(*[chat("x")] * 101),
    batch(chat("x", seed=10**30)),
    batch(chat("x", messages=[{"role": "tool", "content": [{"type": 1}]}])),
    batch(*[chat("x", a=1, b=1)] * 100),
    b'{"requests":{}}',
    b'{"requests":[{},{}],"requests":[]}',
    batch(ANTHROPIC, other=1),
    batch(chat("x"), ANTHROPIC),
]


@pytest.mark.parametrize("path", ["/batch", "/jobs"])
@pytest.mark.parametrize("body", WRONG)
async def test_a_mistake_is_reported_alike(api: httpx.AsyncClient, path: str, body: bytes) -> None:
    small, large = [
        await api.post(path, content=content, headers=JSON) for content in (body, body + SPACES)
    ]
    assert small.status_code == 422
    expected, found = [
        sorted(({**e, "msg": without_place(e)} for e in errors(answer)), key=str)
        for answer in (small, large)
    ]
    if len(expected) == 1 and "too many to list" in expected[0]["msg"]:
        assert "too many to list" in found[0]["msg"]
    else:
        assert found == expected


def errors(answer: httpx.Response) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer.json()["detail"]
    return found


def without_place(error: dict[str, Any]) -> str:
    """Returns the message without the column at which a JSON text is invalid."""
    message: str = error["msg"]
    return message.partition(" at line")[0]


@pytest.mark.parametrize(
    ("body", "location"),
    [
        (batch(chat("x"))[:-1], ["body"]),
        (batch(chat("x")) + b"}", ["body"]),
        (b'{"requests":[{"a":1} {}]}', ["body", "requests", 0]),
        (batch(chat("x"))[:-2] + b",]}", ["body", "requests", 1]),
        (b'{"requests":[{"a":tru}]}', ["body", "requests", 0]),
    ],
    ids=["no end", "two ends", "no comma", "comma at the end", "no value"],
)
async def test_invalid_json_is_reported(
    api: httpx.AsyncClient, body: bytes, location: list[str | int]
) -> None:
    answer = await api.post("/batch", content=body + SPACES, headers=JSON)
    assert answer.status_code == 422
    assert [error["loc"] for error in errors(answer)] == [location]


async def payloads(redis: Redis, keys: Keys, job: str) -> dict[bytes, Any]:
    stored = await redis.hgetall(keys.payloads(job))  # type: ignore[misc]
    return {index: json.loads(payload)["a"] for index, payload in stored.items()}


@pytest.mark.parametrize(
    "body",
    [
        batch(
            chat("x", request_id="é"),
            chat('"}],{', temperature=None, max_tokens=7.0, top_p=0.5, models=["ollama/m"]),
            chat(
                "y",
                provider="ollama",
                messages=[{"role": "user", "content": [{"type": "text", "text": "z"}]}],
            ),
            deadline_s=60,
        ),
        batch(chat("x"), chat("y")).replace(b'"requests"', b'"\\u0072equests"'),
    ],
)
@pytest.mark.parametrize("path", ["/batch?mode=async", "/jobs"])
async def test_the_same_requests_are_stored(
    api: httpx.AsyncClient, redis: Redis, keys: Keys, path: str, body: bytes
) -> None:
    small, large = [
        (await api.post(path, content=content, headers=JSON)).json()
        for content in (body, body + SPACES)
    ]
    assert small["total_requests"] == large["total_requests"]
    assert (small["deadline_at"] is None) == (large["deadline_at"] is None)
    expected, found = [await payloads(redis, keys, job["job_id"]) for job in (small, large)]
    assert found == expected != {}


@pytest.mark.parametrize("size", [b"", SPACES])
async def test_a_body_for_anthropics_batch_api_is_read(api: httpx.AsyncClient, size: bytes) -> None:
    other = {**ANTHROPIC, "custom_id": "b\n"}
    body = json.dumps({"requests": [ANTHROPIC, other]}, indent=1).encode() + size
    answer = await api.post("/jobs?provider=openrouter&model=m", content=body, headers=JSON)
    assert answer.status_code == 422  # the provider is not configured
    assert errors(answer)[0]["loc"][:3] == ["body", "line", 1]


async def test_a_mistake_leaves_nothing_behind(
    api: httpx.AsyncClient, redis: Redis, keys: Keys
) -> None:
    requests = [chat("x" * 50_000, messages=[{"role": "user", "content": "x" * 50_000}] * 20)] * 9
    answer = await api.post("/batch", content=batch(*requests, {}), headers=JSON)
    assert answer.status_code == 422
    assert errors(answer)[0]["loc"][:3] == ["body", "requests", 9]
    assert [key async for key in redis.scan_iter(match=f"{keys.prefix}payloads*")] == []
