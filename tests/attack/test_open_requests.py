"""Tests that one owner's open requests and streams leave room for the others."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from support.authentication import ANN, API_KEYS, BOB, entry
from support.raw_http import Connection, connect
from support.stack import Stack, Start, chat, eventually

from shared.owner_shares import OwnerShares

LIMIT = 40


def take_all(shares: OwnerShares, owner: str) -> int:
    """Takes as many places as the owner gets. Returns their number."""
    return next(count for count in range(10_000) if not shares.take(owner))


def test_an_owner_leaves_room_for_the_next() -> None:
    shares = OwnerShares(2000)
    assert [take_all(shares, owner) for owner in "abcd"] == [1000, 500, 250, 125]
    assert not shares.is_full


@pytest.mark.parametrize(
    ("limit", "taken"), [(1, [1, 0]), (2, [1, 1]), (3, [2, 1]), (10, [5, 3, 1, 1])]
)
def test_a_small_limit_is_shared_too(limit: int, taken: list[int]) -> None:
    shares = OwnerShares(limit)
    assert [take_all(shares, owner) for owner, _ in zip("abcd", taken, strict=False)] == taken
    shares.give_back("a")
    assert take_all(shares, "new") == 1


def test_an_owner_without_others_takes_all() -> None:
    shares = OwnerShares(10, unshared="a")
    assert take_all(shares, "a") == 10
    assert shares.is_full
    assert not shares.take("b")


@asynccontextmanager
async def streams(deployment: Stack, key: str) -> AsyncIterator[list[int]]:
    """Opens LIMIT streams. Yields the statuses, and keeps the streams open."""
    head = (
        f"GET /overview/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
    )

    async def status(connection: Connection) -> int:
        await connection.send(head.encode())
        return (await connection.head()).status

    async with AsyncExitStack() as exits:
        opened = [
            await exits.enter_async_context(connect(deployment.api.base_url)) for _ in range(LIMIT)
        ]
        yield [await status(connection) for connection in opened]


async def test_the_streams_of_one_owner_do_not_keep_out_the_others(stack: Start) -> None:
    cy = "cy's key"
    keys = f"{API_KEYS},{entry('cy', cy)}"
    deployment = await stack(workers=1, key=ANN, API_KEYS=keys, MAX_OPEN_REQUESTS=str(LIMIT))
    bob = deployment.client(BOB)

    async with streams(deployment, ANN) as statuses:
        assert statuses.count(200) == LIMIT // 2
        refused = await deployment.api.get("/jobs")
        assert refused.status_code == 503
        assert "MAX_OPEN_REQUESTS" in refused.text
        assert refused.headers["retry-after"] == "1"

        answer = await bob.post("/batch", json={"requests": [chat("hello")]})
        assert answer.json()["successful"] == 1
        assert (await bob.get("/")).status_code == 200
        async with streams(deployment, BOB) as others:
            assert others.count(200) == LIMIT // 4
            assert (await deployment.client(cy).get("/jobs")).status_code == 200

    async def is_free() -> bool:
        return (await deployment.api.get("/jobs")).is_success

    await eventually(is_free)


async def test_requests_without_a_key_leave_room_for_the_only_owner(stack: Start) -> None:
    """Tests clients that ask for a large file and do not read it."""
    deployment = await stack(
        workers=0, key=ANN, API_KEYS=entry("ann", ANN), MAX_OPEN_REQUESTS=str(LIMIT)
    )
    request = b"GET /docs/swagger-ui-bundle-5.35.0.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with AsyncExitStack() as exits:
        for _ in range(LIMIT):
            reader = exits.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((deployment.api.base_url.host, deployment.api.base_url.port))
            reader.sendall(request * 10)

        async def is_shared() -> bool:
            async with httpx.AsyncClient(base_url=deployment.api.base_url) as anybody:
                return (await anybody.get("/")).status_code == 503

        await eventually(is_shared)
        async with streams(deployment, ANN) as statuses:
            assert statuses.count(200) >= LIMIT // 2
