"""Tests requests at an API that was frozen, after their client has repeated them elsewhere."""

import json
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from support.stack import Stack

pytestmark = pytest.mark.chaos

Start = Callable[..., Awaitable[Stack]]
CHAT = "/v1/chat/completions"
REPEATED = {"x-stainless-retry-count": "1"}
BODY = {"model": "openrouter/m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_live_call_is_paid_for_once(stack: Start, *, stream: bool) -> None:
    deployment = await stack(workers=1)
    body = {**BODY, "stream": stream}

    answer = await repeated(deployment, CHAT, body)

    assert "hello" in answer.text
    assert (await deployment.stats())["total"] == 1
    assert len((await deployment.api.get("/jobs")).json()["jobs"]) == 1


async def test_a_batch_is_created_once(stack: Start) -> None:
    deployment = await stack(workers=1)
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": BODY}
    form: Any = {"files": {"file": json.dumps(line).encode()}, "data": {"purpose": "batch"}}
    file = (await deployment.api.post("/v1/files", **form)).json()
    new = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}

    batch = (await repeated(deployment, "/v1/batches", new)).json()

    listed = (await deployment.api.get("/v1/batches")).json()["data"]
    assert [entry["id"] for entry in listed] == [batch["id"]]


async def repeated(deployment: Stack, path: str, body: Any) -> httpx.Response:
    """Sends a request to a frozen API, and again to another API before the first API continues.

    Returns the answer of the other API when the first API has read the first request.
    """
    second = await deployment.another_api()
    deployment.api_process.send_signal(signal.SIGSTOP)
    with pytest.raises(httpx.ReadTimeout):
        await deployment.api.post(path, json=body, timeout=0.5)
    answer = await second.post(path, json=body, headers=REPEATED)
    deployment.api_process.send_signal(signal.SIGCONT)
    # The API answers later requests after the first, because its event loop has read that before.
    for _ in range(20):
        assert (await deployment.api.get("/v1/batches")).status_code == 200
    return answer
