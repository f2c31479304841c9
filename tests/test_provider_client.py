import asyncio
import gzip
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import orjson
import pytest
from support.providers import endpoint_of
from support.raw_server import http, raw
from support.stack import eventually

from cli.simulator import Behaviour, Simulator
from shared.dialects.dialect import Answer
from shared.models import ErrorCode
from shared.providers import PROVIDERS
from shared.queue.item_request import ItemRequest
from shared.queue.verdict import Verdict
from shared.settings import MAX_ANSWER_BYTES, ProviderSettings
from worker.providers.answer_limits import MAX_STREAM_BYTES
from worker.providers.client import call
from worker.providers.connections import http_client
from worker.providers.endpoint import Endpoint
from worker.providers.errors import ProviderError

KEY = "sk-or-v1-0123456789abcdef"
PROMPT = "The patient's name is Ada Lovelace, born in 1815; her 'notes' say:\n\"ünwell\" — advise."
MAX_MEMORY = 5 * MAX_ANSWER_BYTES

both_providers = pytest.mark.parametrize("provider", ["openrouter", "ollama"])


def with_key(provider: str, base_url: str, referer: str = "http://localhost:8000") -> Endpoint:
    settings = ProviderSettings(api_key=KEY, base_url=base_url, http_referer=referer)
    return endpoint_of(PROVIDERS[provider], settings)


@pytest.fixture
def endpoints(providers: dict[str, ProviderSettings]) -> dict[str, Endpoint]:
    return {name: endpoint_of(PROVIDERS[name], settings) for name, settings in providers.items()}


def chat(
    *contents: str, model: str = "some/model:free", temperature: float = 0.3, max_tokens: int = 7
) -> ItemRequest:
    return {
        "provider": "as in the queue",
        "model": model,
        "chat": {
            "messages": [
                {"role": "user", "content": content} for content in contents or ("hello there",)
            ],
            "temperature": temperature,
            "max_tokens": max_tokens,
        },
    }


async def failure(
    client: httpx.AsyncBaseTransport, endpoint: Endpoint, chat: ItemRequest, *, timeout_s: float = 5
) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        async with asyncio.timeout(timeout_s + 1):
            await call(client, endpoint, chat, timeout_s=timeout_s)
    return caught.value


def facts(error: ProviderError) -> dict[str, Any]:
    return vars(error)


def limited(message: str, wait_s: float | None, *, status_code: int = 429) -> ProviderError:
    verdict, code = Verdict.RATE_LIMITED, ErrorCode.RATE_LIMITED
    if status_code != 429:
        verdict, code = Verdict.OVERLOADED, ErrorCode.OVERLOADED
    return ProviderError(verdict, code, message, status_code=status_code, wait_s=wait_s)


HI = http({"choices": [{"message": {"content": "hi"}}]})


async def test_openrouter_request(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], simulator: Simulator
) -> None:
    request = chat("one", "two")
    await call(client, endpoints["openrouter"], request, timeout_s=5)
    body = {
        "model": "some/model:free",
        "messages": request["chat"]["messages"],
        "temperature": 0.3,
        "max_tokens": 7,
    }
    assert simulator.last() == {
        "openai": {
            "headers": {
                "host": simulator.url.removeprefix("http://"),
                "accept": "*/*",
                "accept-encoding": "gzip, deflate",
                "connection": "keep-alive",
                "user-agent": "llm-batch-orchestrator",
                "content-type": "application/json",
                "content-length": str(len(orjson.dumps(body))),
                "authorization": "Bearer test-key",
                "http-referer": "http://localhost:8000",
                "x-title": "LLM batch orchestrator",
            },
            "body": body,
        }
    }


async def test_ollama_request(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], simulator: Simulator
) -> None:
    request = chat("one", "two")
    await call(client, endpoints["ollama"], request, timeout_s=5)
    body = {
        "model": "some/model:free",
        "messages": request["chat"]["messages"],
        "stream": False,
        "options": {"temperature": 0.3, "num_predict": 7},
    }
    assert simulator.last() == {
        "ollama": {
            "headers": {
                "host": simulator.url.removeprefix("http://"),
                "accept": "*/*",
                "accept-encoding": "gzip, deflate",
                "connection": "keep-alive",
                "user-agent": "llm-batch-orchestrator",
                "content-type": "application/json",
                "content-length": str(len(orjson.dumps(body))),
            },
            "body": body,
        }
    }


async def test_ollama_key_is_sent(client: httpx.AsyncBaseTransport, simulator: Simulator) -> None:
    ollama = with_key("ollama", simulator.url)
    await call(client, ollama, chat(), timeout_s=5)
    assert simulator.last()["ollama"]["headers"]["authorization"] == f"Bearer {KEY}"


async def test_referer_is_a_setting(client: httpx.AsyncBaseTransport, simulator: Simulator) -> None:
    openrouter = with_key("openrouter", f"{simulator.url}/v1", "https://me.test/")
    await call(client, openrouter, chat(), timeout_s=5)
    assert simulator.last()["openai"]["headers"]["http-referer"] == "https://me.test/"


async def test_path_is_added_to_the_base_url(client: httpx.AsyncBaseTransport) -> None:
    async with raw(HI) as server:
        openrouter = with_key("openrouter", f"{server.url}/api/v1/")
        await call(client, openrouter, chat(), timeout_s=5)
    assert server.requests[0].startswith(b"POST /api/v1/chat/completions HTTP/1.1\r\n")


@both_providers
async def test_answer(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], provider: str
) -> None:
    completion = await call(client, endpoints[provider], chat("be brief", "hello"), timeout_s=5)
    cost_usd = {"openrouter": 0.000005, "ollama": None}[provider]
    assert replace(completion, usage=None) == Answer("echo: hello", 3, 2, 5, "stop", cost_usd)


@both_providers
@pytest.mark.parametrize(
    ("model", "completion"),
    [
        ("sim-null-content", Answer("", 2, 3, 5, "stop")),
        ("sim-no-usage", Answer("echo: hello there", 0, 0, 0, "stop")),
    ],
)
async def test_incomplete_answer(
    client: httpx.AsyncBaseTransport,
    endpoints: dict[str, Endpoint],
    provider: str,
    model: str,
    completion: Answer,
) -> None:
    answer = await call(client, endpoints[provider], chat(model=model), timeout_s=5)
    assert replace(answer, cost_usd=None, usage=None) == completion


@both_providers
@pytest.mark.parametrize(
    "text",
    [
        "🎉 👩‍👩‍👧‍👦",
        "\u202e\u05e9\u05dc\u05d5\u05dd\u202c \u0633\u0644\u0627\u0645",
        "a\u0000b\u0000",
        "\r\n\t\u2028\u2029\ufeff",
        "e\u0301 é",
        '"quoted" \\ back\\u0041slash </script>',
        "x" * 50_000,
        "🎉" * 50_000,
    ],
    ids=["emoji", "rtl", "nul", "lines", "unnormalised", "quotes", "long", "long-emoji"],
)
async def test_text_is_unchanged_both_ways(
    client: httpx.AsyncBaseTransport,
    endpoints: dict[str, Endpoint],
    simulator: Simulator,
    provider: str,
    text: str,
) -> None:
    completion = await call(client, endpoints[provider], chat(text), timeout_s=5)
    assert completion.content == f"echo: {text}"
    sent = simulator.last()[PROVIDERS[provider].dialect]["body"]
    assert sent["messages"] == [{"role": "user", "content": text}]


async def test_gzipped_answer(client: httpx.AsyncBaseTransport) -> None:
    body = gzip.compress(orjson.dumps({"choices": [{"message": {"content": "hi"}}]}))
    async with raw(http(body, "Content-Encoding: gzip")) as server:
        completion = await call(client, with_key("openrouter", server.url), chat(), timeout_s=5)
    assert completion == Answer("hi", 0, 0, 0, None)


@both_providers
@pytest.mark.parametrize(
    ("status", "verdict", "code"),
    [
        ("400 Bad Request", Verdict.REJECTED, ErrorCode.INVALID_REQUEST),
        ("401 Unauthorized", Verdict.UNAUTHORIZED, ErrorCode.UNAUTHORIZED),
        ("402 Payment Required", Verdict.QUOTA_EXHAUSTED, ErrorCode.PAYMENT_REQUIRED),
        ("403 Forbidden", Verdict.UNAUTHORIZED, ErrorCode.UNAUTHORIZED),
        ("405 Method Not Allowed", Verdict.REJECTED, ErrorCode.INVALID_REQUEST),
        ("408 Request Timeout", Verdict.TRANSIENT, ErrorCode.TIMEOUT),
        ("409 Conflict", Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR),
        ("410 Gone", Verdict.REJECTED, ErrorCode.INVALID_REQUEST),
        ("425 Too Early", Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR),
        ("500 Internal Server Error", Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR),
        ("501 Not Implemented", Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR),
        ("502 Bad Gateway", Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR),
        ("503 Service Unavailable", Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR),
        ("504 Gateway Timeout", Verdict.TRANSIENT, ErrorCode.TIMEOUT),
    ],
)
async def test_error_status(
    client: httpx.AsyncBaseTransport,
    endpoints: dict[str, Endpoint],
    provider: str,
    status: str,
    verdict: Verdict,
    code: ErrorCode,
) -> None:
    number, _, phrase = status.partition(" ")
    request = chat(model=f"sim-status-{number}")
    message = f"{provider} answered {number}: {phrase}"
    expected = ProviderError(
        verdict, code, message, status_code=int(number), covers_account=number in {"401", "402"}
    )
    assert facts(await failure(client, endpoints[provider], request)) == facts(expected)


async def test_ollama_says_which_model_to_pull(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint]
) -> None:
    error = await failure(client, endpoints["ollama"], chat(model="sim-status-404"))
    assert facts(error) == facts(
        ProviderError(
            Verdict.MODEL_NOT_FOUND,
            ErrorCode.MODEL_NOT_FOUND,
            'ollama answered 404: model "sim-status-404" not found, try pulling it first',
            status_code=404,
        )
    )


async def test_openrouter_does_not_know_the_model(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint]
) -> None:
    error = await failure(client, endpoints["openrouter"], chat(model="sim-status-404"))
    expected = ProviderError(
        Verdict.MODEL_NOT_FOUND,
        ErrorCode.MODEL_NOT_FOUND,
        "openrouter answered 404: Not Found",
        status_code=404,
    )
    assert facts(error) == facts(expected)


async def test_wrong_key(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], simulator: Simulator
) -> None:
    simulator.configure(Behaviour(expect_key="another"))
    error = await failure(client, endpoints["openrouter"], chat())
    assert facts(error) == facts(
        ProviderError(
            Verdict.UNAUTHORIZED,
            ErrorCode.UNAUTHORIZED,
            "openrouter answered 401: No auth credentials found",
            status_code=401,
            covers_account=True,
        )
    )


@both_providers
@pytest.mark.parametrize(
    ("status", "retry_after", "wait_s"),
    [
        ("429 Too Many Requests", "7", 7),
        ("429 Too Many Requests", "0", 0),
        ("429 Too Many Requests", None, None),
        ("429 Too Many Requests", "soon", None),
        ("503 Service Unavailable", "7", 7),
        ("503 Service Unavailable", "0", 0),
    ],
)
async def test_rate_limited(
    client: httpx.AsyncBaseTransport,
    endpoints: dict[str, Endpoint],
    simulator: Simulator,
    provider: str,
    status: str,
    retry_after: str | None,
    wait_s: float | None,
) -> None:
    number, _, phrase = status.partition(" ")
    simulator.configure(Behaviour(retry_after=retry_after))
    error = await failure(client, endpoints[provider], chat(model=f"sim-status-{number}"))
    expected = limited(
        f"{provider} answered {number}: {phrase}", wait_s=wait_s, status_code=int(number)
    )
    assert facts(error) == facts(expected)


async def test_rate_limited_until_a_date(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], simulator: Simulator
) -> None:
    until = datetime.now(UTC) + timedelta(seconds=120)
    simulator.configure(Behaviour(retry_after=format_datetime(until, usegmt=True)))
    error = await failure(client, endpoints["openrouter"], chat(model="sim-status-429"))
    assert error.verdict is Verdict.RATE_LIMITED
    assert error.wait_s == pytest.approx(120, abs=3)


async def test_rate_limited_until_a_date_of_the_providers_clock(
    client: httpx.AsyncBaseTransport,
) -> None:
    answer = http(
        b"",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT",
        "Retry-After: Sun, 06 Nov 1994 08:50:07 GMT",
        status="429 Too Many Requests",
    )
    async with raw(answer) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    assert facts(error) == facts(limited("openrouter answered 429", wait_s=30))


@pytest.mark.parametrize(("value", "wait_s"), [("7", 7), ("soon", None)])
async def test_overloaded(
    client: httpx.AsyncBaseTransport, value: str, wait_s: float | None
) -> None:
    async with raw(http(b"", f"Retry-After: {value}", status="529 Overloaded")) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    assert facts(error) == facts(limited("openrouter answered 529", wait_s=wait_s, status_code=529))


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("503 Service Unavailable", ["Retry-After: soon"]),
        ("500 Internal Server Error", ["Retry-After: 7"]),
    ],
)
async def test_a_server_error_without_retry_after_is_transient(
    client: httpx.AsyncBaseTransport, status: str, headers: list[str]
) -> None:
    async with raw(http(b"", *headers, status=status)) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    assert facts(error) == facts(
        ProviderError(
            Verdict.TRANSIENT,
            ErrorCode.PROVIDER_ERROR,
            f"openrouter answered {status[:3]}",
            status_code=int(status[:3]),
        )
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            400,
            ProviderError(
                Verdict.REJECTED,
                ErrorCode.INVALID_REQUEST,
                "openrouter answered 400: Bad Request",
                status_code=400,
            ),
        ),
        (
            402,
            ProviderError(
                Verdict.QUOTA_EXHAUSTED,
                ErrorCode.PAYMENT_REQUIRED,
                "openrouter answered 402: Payment Required",
                status_code=402,
                covers_account=True,
            ),
        ),
        (429, limited("openrouter answered 429: Too Many Requests", wait_s=None)),
        (
            502,
            ProviderError(
                Verdict.TRANSIENT,
                ErrorCode.PROVIDER_ERROR,
                "openrouter answered 502: Bad Gateway",
                status_code=502,
            ),
        ),
    ],
)
async def test_error_object(
    client: httpx.AsyncBaseTransport,
    endpoints: dict[str, Endpoint],
    code: int,
    expected: ProviderError,
) -> None:
    request = chat(model=f"sim-error-object-{code}")
    assert facts(await failure(client, endpoints["openrouter"], request)) == facts(expected)


async def test_ollama_error_object(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint]
) -> None:
    error = await failure(client, endpoints["ollama"], chat(model="sim-error-object-400"))
    expected = ProviderError(
        Verdict.TRANSIENT,
        ErrorCode.PROVIDER_ERROR,
        "ollama answered 500: Bad Request",
        status_code=500,
    )
    assert facts(error) == facts(expected)


async def test_error_object_with_retry_after(client: httpx.AsyncBaseTransport) -> None:
    answer = http({"error": {"code": 503, "message": "busy"}}, "Retry-After: 7")
    async with raw(answer) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    assert facts(error) == facts(
        limited("openrouter answered 503: busy", wait_s=7, status_code=503)
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/elsewhere", "http://[", "//x:99999999/"])
async def test_redirect_is_not_followed(
    client: httpx.AsyncBaseTransport, status: int, location: str
) -> None:
    async with raw(http(b"", f"Location: {location}", status=f"{status} Moved")) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    expected = ProviderError(
        Verdict.REJECTED,
        ErrorCode.INVALID_REQUEST,
        f"openrouter answered {status}",
        status_code=status,
    )
    assert (facts(error), len(server.requests)) == (facts(expected), 1)


async def test_error_without_json_has_no_text(client: httpx.AsyncBaseTransport) -> None:
    async with raw(http(b"<h1>Bad gateway</h1>", status="502 Bad Gateway")) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    assert facts(error) == facts(
        ProviderError(
            Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR, "openrouter answered 502", status_code=502
        )
    )


async def test_error_text_is_cut(client: httpx.AsyncBaseTransport) -> None:
    answer = http({"error": {"message": "no" * 50_000}}, status="400 Bad Request")
    async with raw(answer) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    assert error.message == f"openrouter answered 400: {'no' * 150}…"


@both_providers
async def test_key_is_not_in_the_error(client: httpx.AsyncBaseTransport, provider: str) -> None:
    text = f"key {KEY} and header 'Bearer {KEY}'"
    body = {"error": text if provider == "ollama" else {"code": 401, "message": text}}
    async with raw(http(body, status="401 Unauthorized")) as server:
        error = await failure(client, with_key(provider, server.url), chat())
    assert error.message == f"{provider} answered 401: key … and header 'Bearer …'"


@both_providers
async def test_prompt_is_not_in_the_error(client: httpx.AsyncBaseTransport, provider: str) -> None:
    text = f"cannot take: {PROMPT} (twice: {PROMPT})"
    body = {"error": text if provider == "ollama" else {"code": 400, "message": text}}
    async with raw(http(body, status="400 Bad Request")) as server:
        error = await failure(client, with_key(provider, server.url), chat("be brief", PROMPT))
    assert error.message == f"{provider} answered 400: cannot take: … (twice: …)"


async def test_prompt_is_not_in_the_error_of_an_error_object(
    client: httpx.AsyncBaseTransport,
) -> None:
    async with raw(http({"error": {"code": 400, "message": f"no {PROMPT} {KEY}"}})) as server:
        error = await failure(client, with_key("openrouter", server.url), chat(PROMPT))
    assert error.message == "openrouter answered 400: no … …"


async def test_prompt_around_another_is_not_in_the_error(client: httpx.AsyncBaseTransport) -> None:
    async with raw(http({"error": {"code": 400, "message": f"no: {PROMPT}"}})) as server:
        error = await failure(
            client, with_key("openrouter", server.url), chat("The patient's name is", PROMPT)
        )
    assert "Lovelace" not in error.message


@pytest.mark.parametrize(
    "echo",
    [PROMPT[:40], orjson.dumps(PROMPT).decode(), " ".join(PROMPT.split())],
    ids=["beginning", "json", "one-line"],
)
async def test_altered_prompt_is_not_in_the_error(
    client: httpx.AsyncBaseTransport, echo: str
) -> None:
    async with raw(http({"error": {"code": 400, "message": f"no: {echo}"}})) as server:
        error = await failure(client, with_key("openrouter", server.url), chat(PROMPT))
    assert "Lovelace" not in error.message


@both_providers
@pytest.mark.parametrize("model", ["sim-garbage", "sim-html"])
async def test_no_json(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], provider: str, model: str
) -> None:
    error = await failure(client, endpoints[provider], chat(model=model))
    text = f"{provider} answered with something that is not JSON"
    assert facts(error) == facts(
        ProviderError(Verdict.UNFINISHED, ErrorCode.BAD_RESPONSE, text, status_code=200)
    )


@both_providers
async def test_json_without_an_answer_is_final(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], provider: str
) -> None:
    error = await failure(client, endpoints[provider], chat(model="sim-empty-choices"))
    text = f"{provider} answered with JSON that contains no answer"
    assert facts(error) == facts(
        ProviderError(Verdict.REJECTED, ErrorCode.BAD_RESPONSE, text, status_code=200)
    )


@pytest.mark.parametrize(
    ("answer", "code", "status_code"),
    [
        (b"HTTP/1.1 abc\r\n\r\n", ErrorCode.CONNECTION_ERROR, None),
        (b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n", ErrorCode.CONNECTION_ERROR, None),
        (b"220 smtp.test ESMTP\r\n", ErrorCode.CONNECTION_ERROR, None),
        (http(b"", "X-Long: " + "x" * 100_000), ErrorCode.CONNECTION_ERROR, None),
        (http(b"", "Content-Length: 7"), ErrorCode.CONNECTION_ERROR, None),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi",
            ErrorCode.CONNECTION_ERROR,
            None,
        ),
        (http(b"", status="204 No Content"), ErrorCode.BAD_RESPONSE, 204),
        (http(b"no gzip", "Content-Encoding: gzip"), ErrorCode.BAD_RESPONSE, 200),
        (
            http(gzip.compress(b"{}" * 99)[:-9], "Content-Encoding: gzip"),
            ErrorCode.BAD_RESPONSE,
            200,
        ),
        (http(b"", status="999 Odd"), ErrorCode.PROVIDER_ERROR, 999),
    ],
    ids=[
        "no-status",
        "low-status",
        "other-protocol",
        "long-header",
        "two-lengths",
        "bad-chunk",
        "no-content",
        "no-gzip",
        "half-a-gzip",
        "odd-status",
    ],
)
async def test_broken_http(
    client: httpx.AsyncBaseTransport, answer: bytes, code: ErrorCode, status_code: int | None
) -> None:
    async with raw(answer) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    verdict = Verdict.UNFINISHED if code is ErrorCode.BAD_RESPONSE else Verdict.TRANSIENT
    assert (error.verdict, error.code, error.status_code) == (verdict, code, status_code)


async def test_reason_phrase_that_is_not_utf_8(client: httpx.AsyncBaseTransport) -> None:
    answer = b"HTTP/1.1 503 \xdcberlastet\r\nContent-Length: 0\r\n\r\n"
    async with raw(answer) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    assert error.verdict is Verdict.TRANSIENT


@both_providers
@pytest.mark.parametrize(
    ("model", "reason"),
    [("sim-drop", "ServerDisconnectedError"), ("sim-half", "ClientPayloadError")],
)
async def test_broken_connection(
    client: httpx.AsyncBaseTransport,
    endpoints: dict[str, Endpoint],
    provider: str,
    model: str,
    reason: str,
) -> None:
    error = await failure(client, endpoints[provider], chat(model=model))
    text = f"the connection to {provider} failed ({reason})"
    assert facts(error) == facts(ProviderError(Verdict.TRANSIENT, ErrorCode.CONNECTION_ERROR, text))


async def test_nobody_listens(client: httpx.AsyncBaseTransport) -> None:
    async with raw() as server:
        pass
    error = await failure(client, with_key("openrouter", server.url), chat())
    text = "the connection to openrouter failed (ClientConnectorError)"
    assert facts(error) == facts(
        ProviderError(Verdict.UNREACHABLE, ErrorCode.CONNECTION_ERROR, text)
    )


@both_providers
@pytest.mark.parametrize("model", ["sim-hang", "sim-drip"])
async def test_timeout_covers_the_whole_exchange(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], provider: str, model: str
) -> None:
    error = await failure(client, endpoints[provider], chat(model=model), timeout_s=0.25)
    expected = ProviderError(
        Verdict.TRANSIENT, ErrorCode.TIMEOUT, f"{provider} did not answer in 0.25 s"
    )
    assert facts(error) == facts(expected)


async def test_timeout_covers_the_wait_for_a_connection(endpoints: dict[str, Endpoint]) -> None:
    async with http_client(max_connections=1) as client:
        request = chat(model="sim-hang")
        calls = [failure(client, endpoints["ollama"], request, timeout_s=0.1) for _ in range(2)]
        errors = await asyncio.gather(*calls)
    assert [error.code for error in errors] == [ErrorCode.TIMEOUT] * 2


@both_providers
async def test_huge_answer_is_refused(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], provider: str
) -> None:
    error = await failure(client, endpoints[provider], chat(model="sim-huge"))
    expected = ProviderError(
        Verdict.REJECTED,
        ErrorCode.ANSWER_TOO_LARGE,
        f"{provider} sent more than 16777216 bytes (MAX_ANSWER_BYTES)",
        status_code=200,
    )
    assert facts(error) == facts(expected)


@pytest.fixture
def memory() -> Iterator[Callable[[], int]]:
    """Returns a function that returns the peak of memory in bytes since the start of the test."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    yield lambda: tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
async def test_large_answer_is_not_read_further(
    client: httpx.AsyncBaseTransport, memory: Callable[[], int], status: str
) -> None:
    chunks = [b"x" * 65536] * 4096
    head = f"HTTP/1.1 {status}\r\nContent-Length: {sum(map(len, chunks))}\r\n\r\n".encode()
    async with raw(head, *chunks) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    expected = ProviderError(
        Verdict.REJECTED if status.startswith("200") else Verdict.TRANSIENT,
        ErrorCode.ANSWER_TOO_LARGE if status.startswith("200") else ErrorCode.BAD_RESPONSE,
        "openrouter sent more than 16777216 bytes (MAX_ANSWER_BYTES)",
        status_code=int(status[:3]),
    )
    assert facts(error) == facts(expected)
    assert memory() < MAX_MEMORY


async def test_a_large_stream_is_not_read_further(client: httpx.AsyncBaseTransport) -> None:
    comments = [b": " + b"x" * 65533 + b"\n"] * (MAX_STREAM_BYTES // 65536)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    request = chat() | ItemRequest(provider="openrouter", model="m", stream={})
    events: list[bytes] = []
    async with raw(head, *comments, b"data: {}\n\n", b"data: {}\n\n") as server:
        there = with_key("openrouter", server.url)
        with pytest.raises(ProviderError) as caught:
            await call(client, there, request, timeout_s=30, emit=events.append)
    expected = ProviderError(
        Verdict.REJECTED,
        ErrorCode.ANSWER_TOO_LARGE,
        "openrouter sent a stream of more than 33554432 bytes",
        status_code=200,
    )
    assert (facts(caught.value), events) == (facts(expected), [])


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return gzip.compress(b"x" * 100_000_000)


@pytest.mark.parametrize("layers", [1, 2])
async def test_gzip_bomb_is_not_unpacked(
    client: httpx.AsyncBaseTransport, bomb: bytes, memory: Callable[[], int], layers: int
) -> None:
    body = bomb if layers == 1 else gzip.compress(bomb)
    encoding = ", ".join(["gzip"] * layers)
    async with raw(http(body, f"Content-Encoding: {encoding}")) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    # Two layers are not unpacked at all.
    expected = (
        (Verdict.REJECTED, ErrorCode.ANSWER_TOO_LARGE)
        if layers == 1
        else (Verdict.UNFINISHED, ErrorCode.BAD_RESPONSE)
    )
    assert (error.verdict, error.code) == expected
    assert memory() < MAX_MEMORY


@both_providers
async def test_cancelled_call_closes_the_connection(
    client: httpx.AsyncBaseTransport,
    endpoints: dict[str, Endpoint],
    simulator: Simulator,
    provider: str,
) -> None:
    async def in_flight() -> bool:
        return bool(simulator.stats()["in_flight"])

    async def aborted() -> bool:
        return bool(simulator.stats()["aborted"])

    request = chat(model="sim-latency-60000")
    running = asyncio.create_task(call(client, endpoints[provider], request, timeout_s=60))
    await eventually(in_flight, deadline_s=5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await eventually(aborted, deadline_s=5)


async def test_timed_out_call_closes_the_connection(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], simulator: Simulator
) -> None:
    async def aborted() -> bool:
        return bool(simulator.stats()["aborted"])

    await failure(client, endpoints["ollama"], chat(model="sim-hang"), timeout_s=0.1)
    await eventually(aborted, deadline_s=5)


@pytest.mark.parametrize(
    "answer",
    [HI, http({"error": {"message": "no"}}, status="429 Too Many Requests")],
    ids=["success", "error"],
)
async def test_connection_is_reused(client: httpx.AsyncBaseTransport, answer: bytes) -> None:
    async with raw(answer) as server:
        for _ in range(3):
            with suppress(ProviderError):
                await call(client, with_key("openrouter", server.url), chat(), timeout_s=5)
    assert (server.connections, len(server.requests)) == (1, 3)


async def test_connections_are_limited(
    endpoints: dict[str, Endpoint], simulator: Simulator
) -> None:
    request = chat(model="sim-latency-20")
    async with http_client(max_connections=2) as client:
        calls = [call(client, endpoints["ollama"], request, timeout_s=5) for _ in range(6)]
        await asyncio.gather(*calls)
    assert (simulator.stats()["total"], simulator.stats()["peak"]) == (6, 2)


async def test_no_cookie_is_kept(client: httpx.AsyncBaseTransport) -> None:
    answer = http({"choices": [{"message": {"content": "hi"}}]}, "Set-Cookie: who=me; Path=/")
    async with raw(answer) as server:
        for _ in range(2):
            await call(client, with_key("openrouter", server.url), chat(), timeout_s=5)
    assert [b"\r\ncookie:" in request.lower() for request in server.requests] == [False, False]
