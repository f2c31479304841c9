"""Tests what `uvicorn api.main:app` does with the bytes of real clients and proxies."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from support.command import up
from support.jobs import lines, upload, wait_completed
from support.processes import start
from support.raw_http import connect, split
from support.stack import Start, chat, eventually, free_port

from shared.queue.redis_keys import Keys

BODY = json.dumps({"requests": [chat("hello")]}).encode()
# The headers of Java's HttpClient, of Ktor and of `curl --http2`.
H2C = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
)
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def post_batch(headers: bytes, framing: bytes = b"Content-Length: %d" % len(BODY)) -> bytes:
    head = b"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return b"%b%b%b\r\n\r\n" % (head, headers, framing)


CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
GET_HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n%b\r\n"

# Upgrades


@pytest.mark.parametrize("upgrade", [b"", H2C, WEBSOCKET], ids=["none", "h2c", "websocket"])
async def test_an_upgrade_is_ignored(stack: Start, upgrade: bytes) -> None:
    """A client may send the headers and the body in one packet or in several."""
    deployment = await stack(workers=1)
    head = post_batch(upgrade)
    packets = [
        [head + BODY],
        [head, BODY],
        [head[:40], head[40:] + BODY],
        split(head + BODY, range(1, len(head + BODY))),
        [post_batch(upgrade, b"Transfer-Encoding: chunked") + CHUNKED],
        [post_batch(upgrade, b"Transfer-Encoding: chunked"), CHUNKED[:20], CHUNKED[20:]],
    ]
    async with connect(deployment.api.base_url) as connection:
        for sent in packets:
            await connection.send(*sent)
            answer = await connection.response()

            assert answer.status == 200, answer
            assert json.loads(answer.body)["responses"][0]["content"] == "echo: hello"
        # Nothing of the bodies is left on the connection.
        await connection.send(GET_HEALTH % upgrade)
        assert (await connection.response()).body == b'{"status":"ok"}'
    assert (await deployment.stats())["total"] == len(packets)


async def test_pipelined_requests_with_upgrades_are_answered_in_order(stack: Start) -> None:
    deployment = await stack(workers=1)
    requests = GET_HEALTH % H2C + post_batch(H2C) + BODY + GET_HEALTH % b"" + GET_HEALTH % H2C
    async with connect(deployment.api.base_url) as connection:
        await connection.send(requests * 2)
        bodies = [(await connection.response()).body for _ in range(8)]

    assert [b"echo: hello" in body for body in bodies] == [False, True, False, False] * 2


async def test_connect_is_refused(stack: Start) -> None:
    deployment = await stack(workers=0)
    for target in (b"example.com:443", b"/batch"):
        async with connect(deployment.api.base_url) as connection:
            await connection.send(b"CONNECT %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target)

            assert (await connection.response()).status in {400, 404, 405}


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_curl_asks_for_http_2(stack: Start) -> None:
    deployment = await stack(workers=1)
    output = await _output(
        *("curl", "-sS", "--http2", "-w", " %{http_code} %{http_version}"),
        *("-H", "Content-Type: application/json", "--data-binary", BODY.decode()),
        f"{deployment.api.base_url}/batch",
    )

    assert "echo: hello" in output
    assert output.endswith(" 200 1.1")


JAVA = """
import java.net.URI;
import java.net.http.*;

public class Post {
  public static void main(String[] arguments) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    for (int i = 0; i < 2; i++) {
      HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
          .header("Content-Type", "application/json")
          .POST(HttpRequest.BodyPublishers.ofString(arguments[1])).build();
      HttpResponse<String> response =
          client.send(request, HttpResponse.BodyHandlers.ofString());
      System.out.println(response.statusCode() + " " + response.body());
    }
  }
}
"""


@pytest.mark.skipif(not shutil.which("javac"), reason="no JDK is installed")
async def test_javas_client_asks_for_http_2(stack: Start, tmp_path: Path) -> None:
    deployment = await stack(workers=1)
    (tmp_path / "Post.java").write_text(JAVA)
    output = await _output(
        "java", str(tmp_path / "Post.java"), f"{deployment.api.base_url}/batch", BODY.decode()
    )

    assert [line.partition(" ")[0] for line in output.splitlines()] == ["200", "200"]
    assert output.count("echo: hello") == 2


async def _output(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return output.decode()


# HTTP/1.0


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_only_an_http_1_1_client_gets_chunk_sizes(stack: Start, version: bytes) -> None:
    deployment = await stack(workers=1)
    location = await upload(deployment.api, lines(str(n) for n in range(300)))
    await wait_completed(deployment.api, location)
    plain = (await deployment.api.get(f"{location}/results")).content
    for path, expected in (("results", plain), ("events", b"event: done")):
        async with connect(deployment.api.base_url) as connection:
            await connection.send(
                b"GET %b/%b HTTP/%b\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                % (location.encode(), path.encode(), version)
            )
            answer = await connection.response_until_close()

            assert answer.headers["connection"] == "close"
            if version == b"1.0":
                assert "transfer-encoding" not in answer.headers
                assert expected in answer.body
                assert answer.body.startswith((b'{"', b"id: 1\n"))
            else:
                assert answer.headers["transfer-encoding"] == "chunked"
                assert answer.body.endswith(b"0\r\n\r\n")
    assert len(plain.splitlines()) == 300


async def test_an_http_1_0_client_gets_the_length_of_other_responses(stack: Start) -> None:
    deployment = await stack(workers=1)
    requests = (
        (b"GET /health", b"", b'{"status":"ok"}'),
        (b"POST /batch", BODY, b"echo: hello"),
        (b"GET /static/app.js", b"", b"import"),
        (b"HEAD /overview/events", b"", b""),
    )
    for line, body, expected in requests:
        async with connect(deployment.api.base_url) as connection:
            await connection.send(
                b"%b HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (line, len(body), body)
            )
            answer = await connection.response_until_close()

            assert answer.status == 200
            assert expected in answer.body
            if b"HEAD" not in line:
                assert answer.headers["content-length"] == str(len(answer.body))


# Keep-alive


@asynccontextmanager
async def api(
    environment: dict[str, str], *argv: str, port: int, **settings: str
) -> AsyncIterator[httpx.URL]:
    """Runs an API, which `argv` starts."""
    process = await start(*argv, environment=os.environ | environment | settings)
    url = httpx.URL(f"http://127.0.0.1:{port}")
    try:
        async with httpx.AsyncClient(base_url=url) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/health")).is_success
                except httpx.TransportError:
                    return False

            await eventually(ready)
        yield url
    finally:
        process.kill()
        await process.wait()


async def is_closed_within(url: httpx.URL, seconds: float) -> bool:
    """Returns whether an idle connection is closed in this time after a response."""
    async with connect(url) as connection:
        await connection.send(GET_HEALTH % b"")
        assert (await connection.response()).status == 200
        return await connection.is_closed_within(seconds)


UVICORN = ("uvicorn", "api.main:app", "--log-level", "warning", "--port")


@pytest.fixture
def redis_settings(valkey_url: str, keys: Keys) -> dict[str, str]:
    return {"REDIS_URL": valkey_url, "KEY_PREFIX": keys.prefix}


@pytest.mark.parametrize(
    "argv",
    [
        UVICORN,
        (*UVICORN[:2], "--http", "h11", *UVICORN[2:]),
        ("cli.api_server", "--host", "127.0.0.1", "--port"),
    ],
    ids=["uvicorn", "h11", "up"],
)
async def test_idle_connections_are_kept(
    redis_settings: dict[str, str], argv: tuple[str, ...]
) -> None:
    """A load balancer keeps idle connections for 60 s, and uvicorn by itself only for 5 s."""
    port, other = free_port(), free_port()
    async with (
        api(redis_settings, *argv, str(port), port=port) as by_default,
        api(redis_settings, *argv, str(other), port=other, KEEP_ALIVE_SECONDS="0.2") as short,
    ):
        kept, closed = await asyncio.gather(
            is_closed_within(by_default, 6), is_closed_within(short, 4)
        )

    assert not kept
    assert closed


async def test_uvicorns_option_takes_precedence(redis_settings: dict[str, str]) -> None:
    port = free_port()
    argv = (*UVICORN[:2], "--timeout-keep-alive", "1", *UVICORN[2:])
    async with api(redis_settings, *argv, str(port), port=port) as url:
        assert await is_closed_within(url, 30)


async def test_orchestrator_up_keeps_idle_connections(environment: dict[str, str]) -> None:
    async with up(environment, "--simulate") as deployment:
        assert not await is_closed_within(httpx.URL(deployment.url), 6)
