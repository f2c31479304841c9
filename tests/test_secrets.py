"""Tests that no process writes a prompt, an answer or a key to its output."""

import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import IO, Any

import httpx
import orjson
import pytest
from arq.connections import ArqRedis
from support.claims import commit
from support.jobs import NDJSON, events, lines, results, upload, wait_completed
from support.logs import log_of
from support.stack import Stack, chat, eventually, free_port

from shared.jobs.store import Store
from shared.queue.redis_keys import Keys

KEYS = {"OPENROUTER_API_KEY": "planted-key-one", "OLLAMA_API_KEY": "planted-key-two"}
PLANTED = re.compile(rb"[^\n]*planted[^\n]*")


@pytest.fixture
async def deployment(valkey_url: str, keys: Keys, output: IO[bytes]) -> AsyncIterator[Stack]:
    settings = KEYS | {
        "LOG_LEVEL": "DEBUG",
        "MAX_RETRIES": "1",
        "REQUEST_TIMEOUT": "0.5",
        "OUTAGE_WAIT_SECONDS": "2",
        "MAX_QUEUE_DEPTH": "60",
    }
    deployment = Stack(valkey_url, keys, settings, output=output)
    await deployment.start(workers=2)
    yield deployment
    await deployment.stop()


def secret_chats() -> list[dict[str, Any]]:
    """Returns good requests and requests with each fault, for both providers.

    Answers repeat the prompt.
    """
    models = ["m", "sim-429x1", "sim-500x1", "sim-error-object-502", "sim-no-usage"]
    models += [f"sim-status-{status}" for status in (400, 401, 404, 500)]
    models += [f"sim-{fault}" for fault in ("hang", "drop", "half", "garbage", "html", "drip")]
    return [
        chat(f"planted-prompt {i} {provider}", provider=provider, model=model)
        for provider in ("openrouter", "ollama")
        for i, model in enumerate(models)
    ]


async def test_mixed_run_writes_no_secret(deployment: Stack, output: IO[bytes]) -> None:
    # First: the 401s and lost connections of the requests below pause both providers, so a request
    # after these may finish without a call.
    cancelled = await deployment.batch(
        [chat("planted-prompt", model="sim-latency-400")], params={"mode": "async"}
    )

    async def called() -> bool:  # not "in flight": on a busy machine the call may be over already
        return bool((await deployment.stats())["total"])

    await eventually(called)
    await deployment.api.delete(cancelled.headers["location"])
    body = (await deployment.batch(secret_chats())).json()
    refused = [
        await deployment.batch([chat("planted-prompt", temperature=9, planted="planted-field")]),
        await deployment.api.post("/batch", content=b'{"planted-json": '),
        await deployment.batch([chat("planted-prompt")] * 61),
        await deployment.api.get("/jobs/none"),
    ]
    deployment.workers[0].kill()
    await deployment.batch(secret_chats()[:3])
    log = await log_of(deployment, output)

    # A refused key stops the requests of its provider that have not been sent yet.
    assert body["failed"] >= 22
    assert body["successful"] + body["failed"] == 30
    errors = [response["error"] for response in body["responses"]]
    assert not [error for error in errors if error and "planted" in error]
    assert [answer.status_code for answer in refused] == [422, 422, 429, 404]
    assert b"attempt_failed" in log
    assert PLANTED.findall(log) == []


async def test_internal_error_of_a_worker_writes_no_secret(
    deployment: Stack, output: IO[bytes], redis: ArqRedis, keys: Keys
) -> None:
    """No version of the API writes such payloads."""
    good = {"provider": "openrouter", "model": "m", "messages": [{"role": "user", "content": "x"}]}
    job: dict[str, Any] = {"t": None, "f": "call_provider", "k": {}, "et": 0}
    payloads = [
        b'{"planted-payload": ',
        orjson.dumps(job | {"f": "planted-function", "a": []}),
        orjson.dumps(job | {"a": ["planted-argument"]}),
        orjson.dumps(job | {"a": [good | {"messages": "planted-messages"}]}),
        orjson.dumps(job | {"a": [{"provider": "openrouter", "planted-field": 1}]}),
    ]
    async with Store(redis, keys).staging("job") as staging:
        for payload in payloads:
            await staging.add("openrouter", payload, (None, "openrouter", "m"))
        await commit(staging)

    responses = (await wait_completed(deployment.api, "/jobs/job"))["responses"]
    log = await log_of(deployment, output)

    assert "internal_error" in {response["error_code"] for response in responses}
    assert not [r["error"] for r in responses if "planted" in (r["error"] or "")]
    assert b"task_crashed" in log
    assert PLANTED.findall(log) == []


async def test_internal_error_of_the_api_writes_no_secret(
    deployment: Stack, output: IO[bytes], redis: ArqRedis, keys: Keys
) -> None:
    """No version of the worker stores such results."""
    answer = await deployment.batch([chat("planted-prompt")])
    location = answer.headers["location"]
    results = keys.results(location.removeprefix("/jobs/"))
    broken = []
    for result in (b"planted-no-json", b'["planted-answer"]'):
        await redis.hset(results, "0", b"1 " + result)  # type: ignore[arg-type, misc]
        broken.append(await deployment.api.get(location, headers={"Connection": "close"}))
    log = await log_of(deployment, output)

    assert [(answer.status_code, answer.text) for answer in broken] == [
        (500, "Internal Server Error")
    ] * 2
    assert log.count(b"Traceback") >= 2
    assert PLANTED.findall(log) == []


async def test_all_features_together_write_no_secret(
    valkey_url: str, keys: Keys, output: IO[bytes]
) -> None:
    """The metrics, the overview and the history contain no secret, either."""
    key = "planted-api-key"
    port = free_port()
    settings = KEYS | {
        "LOG_LEVEL": "DEBUG",
        "OUTAGE_WAIT_SECONDS": "2",
        "MAX_RETRIES": "1",
        "API_KEYS": f"ann:{hashlib.sha256(key.encode()).hexdigest()}",
        "WEBHOOK_SECRET": f"whsec_{b64encode(b'planted-webhook-secret!!').decode()}",
        "WORKER_METRICS_PORT": str(port),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    }
    headers = {"authorization": f"Bearer {key}"}
    deployment = Stack(valkey_url, keys, settings, output=output, headers=headers)
    try:
        await deployment.start(workers=1)
        body = lines((f"planted-prompt {n}" for n in range(50)), model="sim-500x1")
        body += lines(["planted-prompt"], model="sim-404")
        url = "http://127.0.0.1:9/planted-hook?planted=1"
        location = await upload(
            deployment.api,
            body,
            params={"webhook_url": url},
            headers={**NDJSON, "Idempotency-Key": "planted-idempotency-key"},
        )
        await wait_completed(deployment.api, location)
        await results(deployment.api, location)
        await events(deployment.api, location)
        await deployment.api.post(f"{location}/retry")
        await deployment.api.get("/jobs", headers={"authorization": "Bearer planted-wrong-key"})

        async def reported() -> bool:
            return "sim-500x1" in (await deployment.api.get("/overview")).text

        await eventually(reported)
        shown = [
            (await deployment.api.get(path)).text for path in ("/overview", "/history", "/metrics")
        ]
        async with httpx.AsyncClient() as client:
            shown.append((await client.get(f"http://127.0.0.1:{port}/metrics")).text)
        log = await log_of(deployment, output)
    finally:
        await deployment.stop()

    assert "orchestrator_items_total" in shown[-1]
    assert b"webhook_failed" in log
    assert PLANTED.findall(log + "".join(shown).encode()) == []
