"""The arq function: one attempt at one item."""

import time
from dataclasses import dataclass
from typing import Any

import httpx
import structlog
from arq.worker import Retry

from shared.models import ChatRequest, ErrorCode
from shared.results import DEADLINE_EXCEEDED, Result
from worker.providers.call import Endpoint, call
from worker.providers.errors import ProviderError
from worker.retry import decide, pause_s

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ended:
    """What a task returns: the item has its result."""

    result: Result
    pause_ms: float = 0.0  # for the whole lane


class RetryItem(Retry):
    """arq's Retry, with a pause for the whole lane."""

    def __init__(self, *, delay_s: float, pause_s: float) -> None:
        super().__init__(defer=delay_s)
        self.delay_ms = delay_s * 1000
        self.pause_ms = pause_s * 1000


@dataclass(frozen=True, slots=True)
class Caller:
    """What the attempts of this process share; in arq's ctx as `caller`."""

    client: httpx.AsyncBaseTransport
    endpoints: dict[str, Endpoint | None]
    timeout_s: float
    max_retries: int


async def call_provider(ctx: dict[str, Any], chat: ChatRequest) -> Ended:
    """Raises RetryItem."""
    caller: Caller = ctx["caller"]
    attempt: int = ctx["job_try"]
    provider = chat["provider"]
    endpoint = caller.endpoints.get(provider)
    if endpoint is None:
        return Ended(
            Result(
                error=f"{provider} needs a key: set {provider.upper()}_API_KEY for the workers",
                error_code=ErrorCode.PROVIDER_NOT_CONFIGURED,
                queued_ms=ctx["queued_ms"],
                attempts=attempt - 1,
            )
        )
    started = time.perf_counter()
    left_s: float = ctx["left_s"]
    timeout_s = min(caller.timeout_s, left_s)
    try:
        completion = await call(caller.client, endpoint, chat, timeout_s=timeout_s)
    except ProviderError as error:
        again = decide(error, attempt=attempt, max_retries=caller.max_retries)
        left_s -= time.perf_counter() - started
        code, message = error.code, error.message
        if again and again.delay_s + again.pause_s >= left_s:
            again = None
            code = ErrorCode.DEADLINE_EXCEEDED
            message = f"{DEADLINE_EXCEEDED.error}; the last attempt: {message}"
        log.info(
            "attempt_failed",
            item=ctx["job_id"],
            provider=provider,
            attempt=attempt,
            code=error.code,
            again=again is not None,
        )
        if again:
            raise RetryItem(delay_s=again.delay_s, pause_s=again.pause_s) from None
        failed = Result(
            error=message,
            error_code=code,
            latency_ms=_since(started),
            queued_ms=ctx["queued_ms"],
            attempts=attempt,
        )
        return Ended(failed, pause_ms=pause_s(error, attempt=attempt) * 1000)
    answered = Result(
        content=completion.content,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        total_tokens=completion.total_tokens,
        finish_reason=completion.finish_reason,
        latency_ms=_since(started),
        queued_ms=ctx["queued_ms"],
        attempts=attempt,
    )
    return Ended(answered)


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
