"""Tests that valid bodies of many megabytes neither silence an API process nor fill its memory."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from support.jobs import NDJSON
from support.search_depth import FULL
from support.stack import Start, chat
from support.watch import watched

MIB = 1024 * 1024
JSON = {"Content-Type": "application/json"}
TEXT = ("word " * 10_000)[:49_999] + "."
BREAKS = "\n" * 49_999 + "."  # each character is an escape in JSON


def said(*texts: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


def batch(*messages: list[dict[str, Any]], **fields: Any) -> bytes:
    requests = [chat("", **fields) | {"messages": of_one} for of_one in messages]
    return json.dumps({"requests": requests}).encode()


def image(size: int) -> list[dict[str, Any]]:
    url = {"url": f"data:image/png;base64,{'A' * size}"}
    return said([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": url}])


def line(**fields: Any) -> bytes:
    body = {"model": "openrouter/m", "messages": said("x"), **fields}
    envelope = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(envelope).encode()


def nested(depth: int) -> object:
    return [nested(depth - 1)] if depth else []


BATCH, LIVE, JOBS = "/batch?mode=async", "/v1/chat/completions", "/jobs"
BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "100 requests of 170,000 characters": (
        BATCH,
        lambda: batch(*[said(TEXT, TEXT, TEXT, TEXT[:20_000])] * 100),
    ),
    "one request of line breaks": (BATCH, lambda: batch(said(*[BREAKS] * 300))),
    "99,000 fields": (
        BATCH,
        lambda: batch(said("x"), metadata=dict.fromkeys(map(str, range(99_000)))),
    ),
    "one line of 8 MB": (JOBS, lambda: line(user="\n" * 4_000_000)),
}
MORE_BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "20 MB": (BATCH, lambda: batch(*[said(*[TEXT] * 4)] * 100)),
    "9,000 messages": (BATCH, lambda: batch(said(*["x" * 3000] * 9000))),
    "100 images": (BATCH, lambda: batch(*[image(310_000)] * 100)),
    "one image": (BATCH, lambda: batch(image(31_000_000))),
    "nested": (BATCH, lambda: batch(*[said("x")] * 100, metadata={"a": [nested(180)] * 5})),
    "JSON for /jobs": (JOBS, lambda: batch(*[said(*[TEXT] * 4)] * 100)),
    "lines of 99,000 elements": (JOBS, lambda: b"\n".join([line(a=[1] * 99_000)] * 4)),
    "live call": (
        LIVE,
        lambda: json.dumps({"model": "openrouter/m", "messages": said("x" * 31 * 10**6)}).encode(),
    ),
    "live call of line breaks": (
        LIVE,
        lambda: json.dumps({"model": "openrouter/m", "messages": said("\n" * 15 * MIB)}).encode(),
    ),
}


@pytest.mark.parametrize("bodies", [BODIES, *([MORE_BODIES] if FULL else [])])
async def test_a_valid_body_of_any_shape_neither_silences_the_api_nor_fills_its_memory(
    stack: Start, bodies: dict[str, tuple[str, Callable[[], bytes]]]
) -> None:
    deployment = await stack(workers=0)
    await deployment.batch([chat("x")], params={"mode": "async"})
    for name, (path, make) in bodies.items():
        body = make()
        headers = NDJSON if path == JOBS and not body.startswith(b'{"requests"') else JSON
        with watched(deployment.api.base_url, deployment.api_process.pid) as api:
            if path == LIVE:  # there is no worker, so no answer comes
                with suppress(httpx.ReadTimeout):
                    await deployment.api.post(path, content=body, headers=headers, timeout=3)
            else:
                answer = await deployment.api.post(path, content=body, headers=headers)
                assert answer.status_code == 202, (name, answer.text)

        assert api.memory < 150 * MIB, (name, api)
        assert api.silent_s < 0.25, (name, api)


async def test_a_line_of_many_fields_is_refused_before_it_is_parsed(stack: Start) -> None:
    deployment = await stack(workers=0)
    for piece in (b'{"a":1},', b"[", b'""'):
        body = b'{"a":[' + piece * (8_000_000 // len(piece))
        with watched(deployment.api.base_url, deployment.api_process.pid) as api:
            answer = await deployment.api.post("/jobs", content=body, headers=NDJSON)

        assert answer.status_code == 422, answer.text
        assert api.memory < 60 * MIB, (piece, api)
        assert api.silent_s < 0.25, (piece, api)
