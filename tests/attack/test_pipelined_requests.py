"""Tests clients that send requests before they have read the responses, and then disconnect."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from typing import IO

import pytest
from support.raw_http import connect
from support.stack import Stack, chat, eventually

from shared.queue.redis_keys import Keys

BODY = json.dumps({"requests": [chat("x", model="sim-latency-60000")]}).encode()
HEAD = b"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HEAD += b"Content-Length: "
POST = b"%b%d\r\n\r\n%b" % (HEAD, len(BODY), BODY)
FILE = b"GET /docs/swagger-ui-bundle-5.35.0.js HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
async def deployment(valkey_url: str, keys: Keys, output: IO[bytes]) -> AsyncIterator[Stack]:
    settings = {"DISCONNECT_GRACE_SECONDS": "0"}
    deployment = Stack(valkey_url, keys, settings, output=output)
    await deployment.start(workers=1)
    yield deployment
    await deployment.stop()
    output.seek(0)
    assert b"Traceback" not in output.read()


def client(deployment: Stack) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    url = deployment.api.base_url
    connection.connect((url.host, url.port))
    return connection


@pytest.mark.parametrize(("count", "reset"), [(2, True), (20, False)])
async def test_the_job_of_a_client_that_leaves_is_cancelled(
    deployment: Stack,
    count: int,
    reset: bool,  # noqa: FBT001 — parametrized
) -> None:
    connection = client(deployment)
    connection.sendall(POST * count)
    await deployment.in_flight(1)
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()

    async def is_cancelled() -> bool:
        jobs = (await deployment.api.get("/jobs")).json()["jobs"]
        return [job["status"] for job in jobs] == ["cancelled"]

    await eventually(is_cancelled)


async def test_a_client_that_leaves_a_large_response_is_forgotten(deployment: Stack) -> None:
    for _ in range(5):
        connection = client(deployment)
        connection.sendall(FILE * 10)
        connection.recv(1)  # the first response has begun
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    assert (await deployment.api.get("/health")).status_code == 200


async def test_requests_that_wait_are_answered_in_their_order(deployment: Stack) -> None:
    """The bodies that wait are larger than what is read ahead."""
    texts = [str(number) * 30_000 for number in range(8)]
    bodies = [json.dumps({"requests": [chat(text)]}).encode() for text in texts]
    async with connect(deployment.api.base_url) as connection:
        sending = asyncio.create_task(
            connection.send(*[b"%b%d\r\n\r\n%b" % (HEAD, len(body), body) for body in bodies])
        )
        answers = [json.loads((await connection.response()).body) for _ in bodies]
        await sending

    assert [answer["responses"][0]["content"] for answer in answers] == [
        f"echo: {text}" for text in texts
    ]
