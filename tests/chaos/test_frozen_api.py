"""Tests requests at an API that was frozen, after their client has repeated them elsewhere."""

import json
import signal
from typing import Any

import httpx
import pytest
from support.stack import Start, chat

pytestmark = pytest.mark.chaos

CHAT = "/v1/chat/completions"
REPEATED = {"x-stainless-retry-count": "1"}
BODY = {"model": "openrouter/m", "messages": [{"role": "user", "content": "hello"}]}
LINE = {"custom_id": "a", "method": "POST", "url": CHAT, "body": BODY}
FORM: dict[str, Any] = {
    "files": {"file": json.dumps(LINE).encode()},
    "data": {"purpose": "batch"},
}


async def test_each_request_is_done_once(stack: Start) -> None:
    deployment = await stack(workers=1)
    second = await deployment.another_api()

    async def repeated(path: str, **body: Any) -> httpx.Response:
        """Sends a request to a frozen API, and again to another before the first continues.

        Returns the answer of the other API when the first API has read the first request.
        """
        deployment.api_process.send_signal(signal.SIGSTOP)
        with pytest.raises(httpx.ReadTimeout):
            await deployment.api.post(path, **body, timeout=0.3)
        answer = await second.post(path, **body, headers=REPEATED)
        deployment.api_process.send_signal(signal.SIGCONT)
        for _ in range(20):  # the API has read the first request before these
            assert (await deployment.api.get("/v1/batches")).status_code == 200
        return answer

    async def listed(path: str) -> list[str]:
        return [entry["id"] for entry in (await second.get(path)).json()["data"]]

    file = (await repeated("/v1/files", **FORM)).json()
    assert await listed("/v1/files?purpose=batch") == [file["id"]]

    new = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    batch = (await repeated("/v1/batches", json=new)).json()
    assert await listed("/v1/batches") == [batch["id"]]

    answer = await repeated(CHAT, json=BODY)
    stream = await repeated(CHAT, json={**BODY, "stream": True})
    assert answer.json()["choices"][0]["message"]["content"] == "echo: hello"
    assert stream.text.endswith("data: [DONE]\n\n")
    native = await repeated("/batch", json={"requests": [chat("hello")]})
    assert native.json()["successful"] == 1
    jobs = (await second.get("/jobs")).json()["jobs"]
    assert len(jobs) == (await deployment.stats())["total"] == 4
