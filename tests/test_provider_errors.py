"""Tests what responses of providers mean that are no answer."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from support.provider_calls import both_providers, chat, facts, failure, limited, with_key
from support.raw_server import http, raw

from cli.simulator import Behaviour, Simulator
from shared.models import ErrorCode
from shared.queue.verdict import Verdict
from worker.providers.endpoint import Endpoint
from worker.providers.errors import ProviderError


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
