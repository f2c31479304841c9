"""Tests API keys: a request needs a valid key, and a key's owner sees only their own jobs."""

import hashlib
import os
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.authentication import ANN, API_KEYS, BOB, OLD
from support.jobs import NDJSON, lines, upload, wait_completed
from support.processes import PIPE, STDOUT, start
from support.stack import Stack, Start, chat, eventually

from shared.queue.redis_keys import Keys
from shared.version import VERSION


@pytest.fixture
async def deployment(stack: Start) -> Stack:
    return await stack(workers=1, key=ANN, API_KEYS=API_KEYS)


ENDPOINTS = [
    ("POST", "/batch"),
    ("POST", "/jobs"),
    ("GET", "/jobs"),
    ("GET", "/jobs/x"),
    ("DELETE", "/jobs/x"),
    ("POST", "/jobs/x/retry"),
    ("GET", "/jobs/x/results"),
    ("GET", "/jobs/x/events"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files/x/content"),
    ("POST", "/v1/batches"),
    ("GET", "/overview"),
    ("GET", "/metrics"),
    ("GET", "/nothing"),
]
OPEN = ["/", "/health", "/health/ready", "/docs", "/openapi.json"]


INVALID = [
    None,
    "",
    "Bearer",
    "Bearer wrong",
    f"Basic {ANN}",
    ANN,
    f"Bearer {ANN}x",
    f"Bearer {hashlib.sha256(ANN.encode()).hexdigest()}",
]


async def test_every_endpoint_with_data_needs_a_key(deployment: Stack) -> None:
    deployment.api.headers.pop("authorization")
    for authorization in INVALID:
        headers = {} if authorization is None else {"authorization": authorization}
        for method, path in ENDPOINTS:
            answer = await deployment.api.request(method, path, headers=headers)

            assert answer.status_code == 401, (path, authorization)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert set(answer.json()) == {"error" if path.startswith("/v1/") else "detail"}
        for path in OPEN:
            answer = await deployment.api.get(path, headers=headers)
            assert answer.status_code == 200, (path, authorization)


async def test_a_valid_key_is_accepted_by_every_endpoint(deployment: Stack) -> None:
    for scheme, key in product(["Bearer", "bearer", "BEARER"], [ANN, BOB, OLD]):
        deployment.api.headers["authorization"] = f"{scheme} {key}"

        answers = [await deployment.api.request(*endpoint) for endpoint in ENDPOINTS]

        assert 401 not in {answer.status_code for answer in answers}, (scheme, key)


async def test_readiness_without_a_key_is_only_a_status(deployment: Stack) -> None:
    """A load balancer has no key, and needs no more than the status."""
    known = await deployment.api.get("/health/ready")
    deployment.api.headers.pop("authorization")
    unknown = await deployment.api.get("/health/ready")
    wrong = await deployment.api.get("/health/ready", headers={"authorization": "Bearer x"})
    deployment.workers[0].kill()

    async def not_ready() -> bool:
        return (await deployment.api.get("/health/ready")).status_code == 503

    await eventually(not_ready)
    later = await deployment.api.get("/health/ready")

    assert known.json() == {"status": "ready", "redis": "ok", "workers": 1, "version": VERSION}
    assert unknown.json() == wrong.json() == {"status": "ready"}
    assert later.json() == {"status": "not_ready"}


async def test_a_job_is_not_found_by_other_owners(deployment: Stack) -> None:
    location = await upload(deployment.api, lines(["x", "y"], model="sim-404"))
    await wait_completed(deployment.api, location)
    bob = deployment.client(BOB)

    for method, path in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/retry"),
        ("GET", "/results"),
        ("GET", "/events"),
    ]:
        answer = await bob.request(method, f"{location}{path}")

        assert answer.status_code == 404, path
        assert answer.json() == (await bob.get("/jobs/nobody")).json()
    assert (await deployment.api.get(location)).json()["retried_as"] is None


async def test_lists_and_idempotency_keys_are_separate_for_each_owner(deployment: Stack) -> None:
    bob, former = deployment.client(BOB), deployment.client(OLD)
    headers = {"Idempotency-Key": "same", **NDJSON}
    anns = await deployment.api.post("/jobs", content=lines(["x"]), headers=headers)
    bobs = await bob.post("/jobs", content=lines(["y"]), headers=headers)

    async def listed(client: Any) -> list[str]:
        return [job["job_id"] for job in (await client.get("/jobs")).json()["jobs"]]

    assert anns.status_code == bobs.status_code == 202
    assert await listed(deployment.api) == await listed(former) == [anns.json()["job_id"]]
    assert await listed(bob) == [bobs.json()["job_id"]]


async def test_one_owners_full_queue_does_not_affect_another_owner(stack: Start) -> None:
    deployment = await stack(workers=1, key=ANN, API_KEYS=API_KEYS, MAX_QUEUE_DEPTH="500")
    await deployment.simulate(latency_ms=60_000)
    await upload(deployment.api, lines(["x"] * 500))
    bob = deployment.client(BOB)

    full = await deployment.api.post("/jobs", content=lines(["x"] * 20), headers=NDJSON)
    other = await bob.post("/jobs", content=lines(["x"] * 500), headers=NDJSON)

    assert (full.status_code, other.status_code) == (429, 202)


async def test_no_key_is_needed_if_none_is_set(stack: Start) -> None:
    deployment = await stack(workers=1)

    answer = await deployment.batch([chat("x")], headers={"authorization": "Bearer anything"})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("api_keys", "said"), [("", b"none: API_KEYS is not set"), (API_KEYS, b'"3 API keys"')]
)
async def test_the_log_says_at_start_whether_keys_are_set(
    valkey_url: str, keys: Keys, tmp_path: Path, api_keys: str, said: bytes
) -> None:
    settings = {"API_KEYS": api_keys, "LOG_LEVEL": "INFO"}
    with (tmp_path / "log").open("wb") as output:
        deployment = Stack(valkey_url, keys, settings, output=output)
        try:
            await deployment.start_api()

            async def is_said() -> bool:
                return said in (tmp_path / "log").read_bytes()

            await eventually(is_said)
        finally:
            await deployment.stop()


async def orchestrator(*argv: str) -> tuple[int | None, str]:
    process = await start(
        "cli.main:main", *argv, environment=os.environ, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_a_created_key_is_accepted(stack: Start) -> None:
    code, output = await orchestrator("keys", "create", "ann")
    made, line = output.splitlines()
    key = made.split()[-1]
    setting, _, value = line.split()[-1].partition("=")

    deployment = await stack(workers=1, key=key, **{setting: value})
    answer = await deployment.batch([chat("x")])

    assert (code, setting) == (0, "API_KEYS")
    assert key not in line
    assert answer.status_code == 200
    assert output != (await orchestrator("keys", "create", "ann"))[1]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a,b", "x" * 65, "é"])
async def test_an_invalid_owner_name_is_refused(name: str) -> None:
    code, output = await orchestrator("keys", "create", name)

    assert code == 1
    assert "orc_" not in output
