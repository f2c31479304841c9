"""Tests the errors of the Python client: wrong settings, refusals and other servers."""

import asyncio

import httpx
import pytest
from support.authentication import ANN, API_KEYS
from support.raw_server import listening
from support.stack import Start, chat

from orchestrator_client import (
    AsyncClient,
    ConnectionFailed,
    OrchestratorError,
)


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("127.0.0.1:8000", "", "must begin with http"),
        ("http://[::1", "", "must begin with http"),
        ("http://", "", "must begin with http"),
        ("http://localhost", "schlüssel€", "printable ASCII"),
        ("http://localhost", "a\nb", "printable ASCII"),
    ],
)
def test_a_wrong_configuration_is_named_at_once(url: str, key: str, said: str) -> None:
    with pytest.raises(OrchestratorError, match=said) as refused:
        AsyncClient(url, api_key=key)

    assert not key or key not in str(refused.value)


async def test_a_server_that_is_not_an_orchestrator_is_named() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        writer.close()

    async with listening(answer) as url, AsyncClient(url) as client:
        with pytest.raises(OrchestratorError, match="did not return a valid orchestrator response"):
            await client.status("x")


async def test_a_server_of_files_is_named() -> None:
    """Python's `http.server` answers a POST with 501."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 501 Unsupported method ('POST')\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    async with listening(answer) as url, AsyncClient(url) as client:
        with pytest.raises(OrchestratorError, match=r"501 .*The server is not an orchestrator"):
            await client.submit([chat("x")])


async def test_a_refusal_says_why(stack: Start) -> None:
    deployment = await stack(workers=0)
    async with AsyncClient(str(deployment.api.base_url)) as client:
        with pytest.raises(OrchestratorError, match="line 2 provider: Field required") as wrong:
            await client.submit([chat("x"), {"model": "m"}])
        with pytest.raises(OrchestratorError, match="no such job") as missing:
            await client.status("nobody")
        with pytest.raises(OrchestratorError, match="no such job"):
            _ = [item async for item in client.results("nobody")]

    assert (wrong.value.status_code, missing.value.status_code) == (422, 404)


async def test_a_refusal_names_the_requests_of_the_program(stack: Start) -> None:
    deployment = await stack(workers=0)
    refused = [chat("x"), {"model": "m", "request_id": "b"}]
    async with AsyncClient(str(deployment.api.base_url)) as client:
        for requests in (refused, iter(refused)):
            with pytest.raises(OrchestratorError) as wrong:
                await client.submit(requests)
            assert str(wrong.value).splitlines()[2:] == [
                "Line 2 is the request with the index 1 and the request_id 'b'."
            ]
        with pytest.raises(OrchestratorError) as in_file:
            await client.submit([b'{"provider":"ollama","messages":[]}'])
        with pytest.raises(TypeError, match="the request with the index 1: Object of type set"):
            await client.submit([chat("x"), {"stop": {1}}])

    assert "is the request" not in str(in_file.value)


async def test_the_url_and_the_key_come_from_the_environment(
    stack: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = await stack(workers=1, key=ANN, API_KEYS=API_KEYS)
    monkeypatch.setenv("ORCHESTRATOR_URL", str(deployment.api.base_url))
    async with AsyncClient() as client:
        with pytest.raises(OrchestratorError) as refused:
            await client.batch([chat("x")])
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", ANN)
    async with AsyncClient() as client:
        answer = await client.batch([chat("x")])

    assert refused.value.status_code == httpx.codes.UNAUTHORIZED
    assert answer.successful == 1


async def test_an_api_that_is_not_there_is_named_at_once() -> None:
    async with asyncio.timeout(20), AsyncClient("http://127.0.0.1:9") as client:
        with pytest.raises(ConnectionFailed) as failed:
            await client.submit([chat("x")])

    assert str(failed.value) == (
        "Can't reach the API at http://127.0.0.1:9 (Connection refused)."
        " Start it with `orchestrator up`, or set ORCHESTRATOR_URL."
    )
    assert (failed.value.url, failed.value.status_code) == ("http://127.0.0.1:9", None)
