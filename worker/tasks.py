"""The arq function: one attempt at one item."""

import time
from dataclasses import dataclass
from typing import Any

import httpx
import structlog
from arq.worker import Retry

from shared.models import ChatRequest, ErrorCode
from shared.monitoring.tracing import NO_TRACER, Tracer
from shared.queue.results import DEADLINE_EXCEEDED, Result
from worker.call_metrics import CallMetrics
from worker.providers.client import Endpoint, call
from worker.providers.dialect import Completion
from worker.providers.errors import ProviderError, RateLimited
from worker.retry import decide, pause_s

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ended:
    """What a task returns: the item has its result."""

    result: Result
    pause_ms: float = 0.0  # for the whole lane
    pause_why: str = ""


class RetryItem(Retry):
    """arq's Retry, with a pause for the whole lane."""

    def __init__(self, *, delay_s: float, pause_s: float = 0, pause_why: str = "") -> None:
        super().__init__(defer=delay_s)
        self.delay_ms = delay_s * 1000
        self.pause_ms = pause_s * 1000
        self.pause_why = pause_why


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What the attempts of this process share; in arq's ctx as `caller`."""

    client: httpx.AsyncBaseTransport
    endpoints: dict[str, Endpoint | None]
    timeout_s: float
    max_retries: int
    tally: CallMetrics
    tracer: Tracer = NO_TRACER


async def call_provider(ctx: dict[str, Any], chat: ChatRequest) -> Ended:
    """Raises RetryItem."""
    caller: ProviderContext = ctx["caller"]
    ended = await _attempt(caller, ctx, chat)
    caller.tally.add_item(chat["provider"], chat["model"], ended.result)
    return ended


async def _attempt(caller: ProviderContext, ctx: dict[str, Any], chat: ChatRequest) -> Ended:
    attempt: int = ctx["job_try"]
    provider = chat["provider"]
    waited = {"queued_ms": ctx["queued_ms"], "retried_ms": ctx["retried_ms"]}
    endpoint = caller.endpoints.get(provider)
    if endpoint is None:
        return Ended(
            Result(
                error=f"{provider} needs a key: set {provider.upper()}_API_KEY for the workers",
                error_code=ErrorCode.PROVIDER_NOT_CONFIGURED,
                attempts=attempt - 1,
                **waited,
            )
        )
    started = time.perf_counter()
    left_s: float = ctx["left_s"]
    timeout_s = min(caller.timeout_s, left_s)
    try:
        completion = await _traced_call(caller, endpoint, chat, ctx, timeout_s)
    except ProviderError as error:
        latency_ms = _since(started)
        caller.tally.add_call(provider, chat["model"], error.code, latency_ms)
        again = decide(error, attempt=attempt, max_retries=caller.max_retries)
        left_s -= latency_ms / 1000
        code, message = error.code, error.message
        if again and again.delay_s + again.pause_s >= left_s:
            again = None
            code = ErrorCode.DEADLINE_EXCEEDED
            message = f"{DEADLINE_EXCEEDED.error}; the last attempt: {message}"
        job_id, _, index = ctx["job_id"].rpartition(":")
        log.info(
            "attempt_failed",
            job=job_id,
            item=int(index),
            provider=provider,
            attempt=attempt,
            code=error.code,
            again=again is not None,
        )
        why = error.reason if isinstance(error, RateLimited) else ""
        if again:
            raise RetryItem(delay_s=again.delay_s, pause_s=again.pause_s, pause_why=why) from None
        failed = Result(
            error=message, error_code=code, latency_ms=latency_ms, attempts=attempt, **waited
        )
        return Ended(failed, pause_ms=pause_s(error, attempt=attempt) * 1000, pause_why=why)
    latency_ms = _since(started)
    caller.tally.add_call(provider, chat["model"], "", latency_ms)
    return Ended(
        Result(
            content=completion.content,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            total_tokens=completion.total_tokens,
            finish_reason=completion.finish_reason,
            cost_usd=completion.cost_usd,
            latency_ms=latency_ms,
            attempts=attempt,
            **waited,
        )
    )


async def _traced_call(
    caller: ProviderContext,
    endpoint: Endpoint,
    chat: ChatRequest,
    ctx: dict[str, Any],
    timeout_s: float,
) -> Completion:
    with caller.tracer.attempt_span(chat, ctx["job_id"], ctx["job_try"]) as span:
        try:
            completion = await call(caller.client, endpoint, chat, timeout_s=timeout_s)
        except ProviderError as error:
            span.failed(error.code)
            raise
        span.answered(
            completion.content,
            completion.prompt_tokens,
            completion.completion_tokens,
            completion.finish_reason,
        )
        return completion


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
