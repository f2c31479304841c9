"""Uploads files, creates batches and reads results with OpenAI's client for Python."""

import json
import time
from typing import Any

CHAT = "/v1/chat/completions"
MODEL = "openrouter/openai/gpt-x"
ENDED = {"completed", "failed", "expired", "cancelled"}


def line(custom_id: str, text: str = "hi", *, model: str = MODEL, url: str = CHAT) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def upload(client: Any, *lines: str) -> Any:
    return client.files.create(file="\n".join(lines).encode(), purpose="batch")


def create(client: Any, *lines: str, endpoint: str = CHAT, **options: Any) -> Any:
    return client.batches.create(
        input_file_id=upload(client, *lines).id,
        endpoint=endpoint,
        completion_window="24h",
        **options,
    )


def ended(client: Any, batch: Any) -> Any:
    until = time.monotonic() + 30
    while batch.status not in ENDED:
        assert time.monotonic() < until, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def lines_of(client: Any, file_id: str) -> list[Any]:
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


def counts(batch: Any) -> tuple[int, int, int]:
    found = batch.request_counts
    return found.total, found.completed, found.failed
