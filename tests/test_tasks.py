"""Tests what a worker stores of a provider's response."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import httpx
import orjson
import pytest
from support.providers import endpoint_of
from support.raw_server import http, raw

from shared.models import ErrorCode
from shared.providers import PROVIDERS
from shared.queue.fallback_chain import fallback_chain
from shared.queue.ids import ItemId, LeaseId
from shared.queue.item_request import ItemRequest
from shared.queue.item_results import Result, read_fields
from shared.queue.leases import Fault
from shared.queue.verdict import Verdict
from shared.settings import ProviderSettings
from worker.call_metrics import CallMetrics
from worker.outcomes import Attempt, Finished, Retry, TaskOutcome
from worker.tasks import ProviderContext, call_provider, may_move_on

NATIVE: ItemRequest = {
    "provider": "openai",
    "model": "m",
    "chat": {"messages": [{"role": "user", "content": "hello"}]},
}
FOREIGN: ItemRequest = {
    "provider": "openai",
    "model": "m",
    "operation": "chat",
    "body": ['{"messages":[{"role":"user","content":"hello"}],"model":', "}"],
}
MESSAGE = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
USAGE = {
    "prompt_tokens": 4,
    "completion_tokens": 3,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 2},
}
REPLY: dict[str, Any] = {
    "choices": [
        {"message": MESSAGE, "finish_reason": "tool_calls", "logprobs": {"content": []}},
        {"message": {"content": "ho"}},
    ],
    "usage": USAGE,
}
ATTEMPT = Attempt(
    ItemId("j:0"),
    LeaseId("j:0@1"),
    "openai",
    number=1,
    calls=1,
    queued_ms=0,
    retried_ms=0,
    remaining_s=inf,
)
CHAIN = fallback_chain([("b", "m"), ("c", "m")], after_s=60, content_filtered=False)


async def result_of(
    client: httpx.AsyncBaseTransport, answer: bytes, request: ItemRequest
) -> Result:
    """Returns the result of a request whose retries are used up."""
    outcome = await outcome_of(client, answer, ATTEMPT, request, max_retries=0)
    assert isinstance(outcome, Finished)
    return outcome.result


async def outcome_of(
    client: httpx.AsyncBaseTransport,
    answer: bytes,
    attempt: Attempt,
    request: ItemRequest,
    *,
    max_retries: int,
    accounts: Sequence[str] = ("openai",),
) -> TaskOutcome:
    async with raw(answer) as server:
        settings = ProviderSettings(api_key="k", base_url=server.url)
        endpoint = endpoint_of(PROVIDERS["openai"], settings)
        context = ProviderContext(
            client=client,
            endpoints=dict.fromkeys(accounts, endpoint),
            missing={},
            max_retries=max_retries,
            calls=CallMetrics(),
        )
        return await call_provider({"provider_context": context}, attempt, request)


ALIAS = replace(ATTEMPT, lane="@fast", account="openai", model="m")
KEYS = replace(ATTEMPT, account="openai")


@pytest.mark.parametrize(
    ("attempt", "request_", "accounts", "outcome"),
    [
        (ATTEMPT, NATIVE, ["openai"], Finished),
        (ALIAS, NATIVE, ["openai"], Retry),
        (KEYS, NATIVE, ["openai", "openai#2"], Retry),
        (ATTEMPT, NATIVE | {"chain": CHAIN}, ["openai"], Retry),
    ],
    ids=["nothing else", "other deployments", "other keys", "fallbacks"],
)
async def test_a_wait_beyond_the_deadline_ends_an_item_that_nothing_else_can_serve(
    client: httpx.AsyncBaseTransport,
    attempt: Attempt,
    request_: ItemRequest,
    accounts: Sequence[str],
    outcome: type[TaskOutcome],
) -> None:
    attempt = replace(attempt, remaining_s=60)
    refusal = http({}, "Retry-After: 120", status="429 Too Many Requests")

    found = await outcome_of(client, refusal, attempt, request_, max_retries=3, accounts=accounts)

    assert isinstance(found, outcome)


@pytest.mark.parametrize(
    ("chain", "error", "expected"),
    [(CHAIN, "no", True), (CHAIN, None, False), (None, "no", False), ("", "no", False)],
)
def test_the_queue_reports_the_end_of_a_failed_item_with_fallbacks(
    chain: str | None, error: str | None, *, expected: bool
) -> None:
    request = NATIVE if chain is None else NATIVE | {"chain": chain}
    fault = Fault(Verdict.TRANSIENT, "answered 500", "provider_error") if error else None

    assert may_move_on(Finished(Result(error=error), fault), request) is expected


async def test_a_native_result_has_the_whole_answer(client: httpx.AsyncBaseTransport) -> None:
    result = await result_of(client, http(REPLY), NATIVE)

    assert result == Result(
        prompt_tokens=4,
        completion_tokens=3,
        total_tokens=7,
        finish_reason="tool_calls",
        latency_ms=result.latency_ms,
        attempts=1,
        message=MESSAGE,
        choices=REPLY["choices"],
        logprobs={"content": []},
        usage=USAGE,
    )


async def test_a_foreign_result_has_the_body(client: httpx.AsyncBaseTransport) -> None:
    result = await result_of(client, http(REPLY), FOREIGN)

    assert result == Result(
        prompt_tokens=4,
        completion_tokens=3,
        total_tokens=7,
        finish_reason="tool_calls",
        latency_ms=result.latency_ms,
        attempts=1,
        usage=USAGE,
        body=orjson.dumps(REPLY).decode(),
    )


@pytest.mark.parametrize(
    ("answer", "code", "status_code"),
    [
        (http({"error": "no"}, status="400 Bad Request"), ErrorCode.INVALID_REQUEST, 400),
        (http({"error": "no"}, status="500 Oh"), ErrorCode.PROVIDER_ERROR, 500),
        (http({"error": {"code": 429}}), ErrorCode.RATE_LIMITED, 429),
        (http({"object": "list"}), ErrorCode.BAD_RESPONSE, None),
        (http(b"{"), ErrorCode.BAD_RESPONSE, None),
        (b"no http\r\n\r\n", ErrorCode.CONNECTION_ERROR, None),
    ],
)
async def test_a_result_has_the_status_with_which_the_provider_refused(
    client: httpx.AsyncBaseTransport, answer: bytes, code: ErrorCode, status_code: int | None
) -> None:
    result = await result_of(client, answer, NATIVE)

    assert (result.error_code, result.status_code) == (code, status_code)


async def test_a_result_has_the_names_and_the_wait_of_the_provider(
    client: httpx.AsyncBaseTransport,
) -> None:
    error = {"message": "no", "type": "requests", "code": "slow_down", "param": "a secret text"}
    answer = http({"error": error}, "Retry-After: 7", status="429 Too Many")

    result = await result_of(client, answer, NATIVE)

    assert result.refusal == {"type": "requests", "code": "slow_down", "wait_s": 7}


async def test_an_answer_that_is_nested_too_deeply_to_store_keeps_its_text(
    client: httpx.AsyncBaseTransport,
) -> None:
    body = b'{"choices":[{"message":{"content":"hi","x":%s}}]}' % (b"[" * 500 + b"1" + b"]" * 500)

    result = await result_of(client, http(body), NATIVE)

    assert result.message is not None
    assert read_fields(result.to_json())["content"] == "hi"
