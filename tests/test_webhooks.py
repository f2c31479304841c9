"""Tests that webhooks are signed, retried after failures, and never sent to a private address."""

import asyncio
import socket
import threading
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from arq.connections import ArqRedis
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook
from support.in_process import running_api
from support.jobs import job, lines, upload
from support.stack import Stack, Start, chat, eventually, stored

from shared.queue.redis_keys import Keys
from shared.settings import Settings
from worker import webhook_client
from worker.public_address import is_public
from worker.webhooks import RETRY_DELAYS_S

SECRET = f"whsec_{b64encode(bytes(range(32))).decode()}"


@dataclass
class Receiver:
    url: str = ""
    statuses: list[int] = field(default_factory=list)  # statuses of the first answers; then 200
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        self.received.append((dict(request.headers), await request.read()))
        if self.hangs:
            await asyncio.sleep(60)
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers=self.headers)

    async def was_called(self, times: int) -> None:
        async def reached() -> bool:
            return len(self.received) == times

        await eventually(reached)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.receive)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    _, port = runner.addresses[0]
    receiver.url = f"http://127.0.0.1:{port}/hook?token=planted"
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def deployment(stack: Start) -> Stack:
    return await stack(workers=2, WEBHOOK_SECRET=SECRET, WEBHOOK_ALLOW_PRIVATE="true")


async def webhook_with(stack: Stack, location: str, status: str) -> dict[str, Any]:
    """Waits until the webhook has this status, and returns the webhook's state."""

    async def reached() -> bool:
        return bool((await job(stack.api, location))["webhook"]["status"] == status)

    await eventually(reached)
    state: dict[str, Any] = (await job(stack.api, location))["webhook"]
    return state


async def test_a_completed_job_is_announced_once_and_signed(
    deployment: Stack, receiver: Receiver
) -> None:
    body = lines(["x"] * 20) + lines(["y"], model="sim-404")
    location = await upload(deployment.api, body, params={"webhook_url": receiver.url})

    state = await webhook_with(deployment, location, "delivered")

    assert state == {"url": receiver.url, "status": "delivered", "attempts": 1, "error": None}
    [(headers, content)] = receiver.received
    message = Webhook(SECRET).verify(content, headers)
    status = await job(deployment.api, location)
    assert message["type"] == "job.finished"
    assert message["timestamp"] == status["finished_at"]
    data = message["data"]
    assert (data["job_id"], data["successful"], data["failed"]) == (status["job_id"], 20, 1)
    assert data["links"] == {"job": location, "results": f"{location}/results"}
    assert headers["webhook-id"] == status["job_id"]
    assert len(content) < 1000
    assert b"echo" not in content


@pytest.mark.parametrize("end", ["cancel", "deadline"])
async def test_a_job_that_finishes_early_is_announced(
    deployment: Stack, receiver: Receiver, end: str
) -> None:
    await deployment.simulate(latency_ms=60_000)
    options = {"webhook_url": receiver.url} | ({"deadline_s": 0.2} if end == "deadline" else {})
    body = {"requests": [chat("x"), chat("y")], **options}
    answer = await deployment.api.post("/batch?mode=async", json=body)
    if end == "cancel":
        await deployment.api.delete(answer.headers["location"])

    await webhook_with(deployment, answer.headers["location"], "delivered")

    [(headers, content)] = receiver.received
    expected = {"cancel": "cancelled", "deadline": "deadline_exceeded"}[end]
    assert Webhook(SECRET).verify(content, headers)["data"]["status"] == expected


async def due_now(redis: ArqRedis, keys: Keys) -> None:
    """Makes the deferred deliveries due now."""

    async def deferred() -> bool:
        return bool(await redis.zcard(keys.deferred("webhooks")))

    await eventually(deferred)
    for item in await redis.zrange(keys.deferred("webhooks"), 0, -1):
        await redis.zadd(keys.deferred("webhooks"), {item: 1})
    await redis.publish(keys.wake, "")


async def test_a_failed_delivery_is_retried_with_the_same_id(
    deployment: Stack, receiver: Receiver, redis: ArqRedis, keys: Keys
) -> None:
    receiver.statuses = [500, 429, 404]
    location = await upload(deployment.api, lines(["x"]), params={"webhook_url": receiver.url})
    for attempt in range(1, 4):
        await receiver.was_called(attempt)
        state = await webhook_with(deployment, location, "waiting")
        await due_now(redis, keys)

    state = await webhook_with(deployment, location, "delivered")

    assert (state["attempts"], len(receiver.received)) == (4, 4)
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    assert len({content for _, content in receiver.received}) == 1
    for headers, content in receiver.received:
        Webhook(SECRET).verify(content, headers)


async def test_a_delivery_that_is_given_up_shows_its_error(
    deployment: Stack, receiver: Receiver, redis: ArqRedis, keys: Keys
) -> None:
    receiver.statuses = [503] * 100
    location = await upload(deployment.api, lines(["x"]), params={"webhook_url": receiver.url})
    max_attempts = len(RETRY_DELAYS_S) + 1
    for attempt in range(1, max_attempts):
        await receiver.was_called(attempt)
        await due_now(redis, keys)

    state = await webhook_with(deployment, location, "given_up")

    assert (state["attempts"], state["error"]) == (max_attempts, "the webhook answered 503")
    assert len(receiver.received) == max_attempts


def test_retries_continue_for_hours() -> None:
    assert sum(RETRY_DELAYS_S) > 12 * 3600
    assert list(RETRY_DELAYS_S) == sorted(RETRY_DELAYS_S)


async def test_a_delivery_survives_its_worker(stack: Start, receiver: Receiver) -> None:
    deployment = await stack(workers=1, WEBHOOK_SECRET=SECRET, WEBHOOK_ALLOW_PRIVATE="true")
    receiver.hangs = True
    location = await upload(deployment.api, lines(["x"]), params={"webhook_url": receiver.url})
    await receiver.was_called(1)

    deployment.workers[0].kill()
    receiver.hangs = False
    await deployment.add_worker()

    assert (await webhook_with(deployment, location, "delivered"))["attempts"] == 1
    assert len(receiver.received) == 2


@pytest.mark.parametrize(
    ("status", "reason"),
    [(302, "redirects are not followed"), (308, "redirects are not followed"), (410, "410")],
)
async def test_a_final_failure_is_not_retried(
    deployment: Stack, receiver: Receiver, status: int, reason: str
) -> None:
    async with receiving() as other:
        receiver.statuses, receiver.headers = [status], {"Location": other.url}
        location = await upload(deployment.api, lines(["x"]), params={"webhook_url": receiver.url})

        state = await webhook_with(deployment, location, "given_up")

        assert state["attempts"] == 1
        assert reason in state["error"]
        assert other.received == []


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("127.0.0.2", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("192.0.2.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("::127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("fec0::1", False),
        ("64:ff9b:1::127.0.0.1", False),
        ("64:ff9b::127.0.0.1", False),
        ("64:ff9b::93.184.215.14", True),
        ("2002:7f00:1::", False),
        ("2001:0:1::1", False),
        ("2001:db8::1", False),
    ],
)
def test_addresses(host: str, public: bool) -> None:  # noqa: FBT001 — parametrized
    assert is_public(host) == public


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "example.com",
        "//example.com/",
        "http://",
        "http:///path",
        "http://user:password@example.com/",
        "http://user@example.com/",
        "http://exa mple.com/",
        "http://example.com:0/",
        "http://example.com:x/",
        "http://[::1/",
        "http://münchen.de/",
        "http://example.com/\x00",
        "http://example.com/" + "x" * 2048,
        "",
    ],
)
async def test_an_invalid_url_is_refused(
    settings: Settings, redis: ArqRedis, keys: Keys, url: str
) -> None:
    body = {"requests": [chat("x")], "webhook_url": url}
    settings = settings.model_copy(update={"webhook_secret": SecretStr(SECRET)})

    async with running_api(settings) as api:
        batch = await api.post("/batch", json=body)
        large = await api.post(
            "/jobs",
            content=lines(["x"]),
            params={"webhook_url": url},
            headers={"Content-Type": "application/x-ndjson"},
        )

    assert (batch.status_code, large.status_code) == (422, 422)
    assert "WEBHOOK_SECRET" not in batch.text + large.text
    assert await stored(redis, keys) == set()


async def test_without_a_secret_there_are_no_webhooks(stack: Start) -> None:
    deployment = await stack(workers=0)
    body = {"requests": [chat("x")], "webhook_url": "https://example.com/"}

    answer = await deployment.api.post("/batch?mode=async", json=body)

    assert answer.status_code == 422
    assert "WEBHOOK_SECRET" in answer.json()["detail"][0]["msg"]


@pytest.mark.parametrize("host", ["a..b", "...", f"{'a' * 64}.example"])
async def test_a_delivery_to_an_invalid_host_is_given_up(host: str) -> None:
    with pytest.raises(webhook_client.DeliveryFailed, match="does not name a valid host") as failed:
        await webhook_client.post(f"http://{host}/", {}, b"{}", allow_private=True)

    assert failed.value.final


async def test_a_name_with_a_public_and_a_private_address_is_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))
        for host in ("10.0.0.1", "127.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    monkeypatch.setattr(webhook_client, "is_public", lambda host: host == "127.0.0.1")

    with pytest.raises(webhook_client.DeliveryFailed, match="the connection failed") as failed:
        await webhook_client.post(f"http://a.example:{port}/", {}, b"{}", allow_private=False)

    assert not failed.value.final


async def test_lookups_that_hang_do_not_delay_others(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, looked_up = threading.Event(), socket.getaddrinfo

    def look_up(host: str, *rest: Any) -> Any:
        if host == "hangs.example":
            answered.wait()
            raise socket.gaierror
        return looked_up(host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    url = "http://hangs.example/"
    posts = [
        asyncio.create_task(webhook_client.post(url, {}, b"{}", allow_private=True))
        for _ in range(40)
    ]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(20):
            assert await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
    finally:
        answered.set()
    ended = await asyncio.gather(*posts, return_exceptions=True)

    assert {type(error) for error in ended} == {webhook_client.DeliveryFailed}


async def test_a_silent_receiver_times_out(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_client, "TIMEOUT_S", 0.1)
    receiver.hangs = True

    with pytest.raises(webhook_client.DeliveryFailed, match=r"did not answer in 0\.1 s"):
        await webhook_client.post(receiver.url, {}, b"{}", allow_private=True)
