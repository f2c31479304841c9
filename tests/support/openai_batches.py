"""Uploads files, creates batches and reads results through OpenAI's API."""

import json
from typing import Any

import httpx

from support.stack import eventually

CHAT = "/v1/chat/completions"
MODEL = "openrouter/m"
RUNNING = {"in_progress", "cancelling"}


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
