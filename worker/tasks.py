"""Defines the task that calls a provider. Each run of the task makes one attempt."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import structlog

from shared.dialects.dialect import Answer
from shared.monitoring.tracing import NO_TRACER, Tracer
from shared.providers.provider_row import provider_of
from shared.queue.deltas import Deltas
from shared.queue.item_request import ItemRequest
from worker.attempt_results import answer_result, failed_result, not_configured
from worker.call_metrics import CallMetrics
from worker.delta_writer import DeltaWriter
from worker.outcomes import Attempt, Finished, TaskOutcome
from worker.providers.client import call
from worker.providers.endpoint import Endpoint
from worker.providers.errors import ProviderError
from worker.retry import outcome_after
from worker.usage import CallHeaders, HeaderReading, usage_of

MAX_TIMEOUT_S = 600.0  # limit of a time-out that `timeout_factor` makes longer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """Holds what all attempts of this process share. arq's ctx has it as `provider_context`."""

    client: httpx.AsyncBaseTransport
    endpoints: Mapping[str, Endpoint]  # endpoints by provider, of the providers that can be called
    missing: Mapping[str, str]  # why the other providers cannot be called, by provider
    max_retries: int
    calls: CallMetrics
    deltas: Deltas | None = None  # None: no answer is streamed
    tracer: Tracer = NO_TRACER
    header_reading: HeaderReading = field(default_factory=HeaderReading)


async def call_provider(ctx: dict[str, Any], attempt: Attempt, request: ItemRequest) -> TaskOutcome:
    """Makes one call for an item.

    Calls the deployment that the queue chose; otherwise the provider and the model in the request.
    If the worker cannot call the provider, the item fails with PROVIDER_NOT_CONFIGURED.
    """
    context: ProviderContext = ctx["provider_context"]
    request = _with_deployment(attempt, request)
    outcome = await _call_once(context, attempt, request)
    if isinstance(outcome, Finished) and not may_move_on(outcome, request):
        context.calls.add_item(
            request["provider"], request["model"], outcome.result, owner=attempt.owner
        )
    return outcome


def may_move_on(outcome: Finished, request: ItemRequest) -> bool:
    """Returns whether the item has failed and has fallbacks.

    For such an item, the queue decides whether it moves on. If not, the queue reports its end.
    """
    return bool(outcome.result.error and outcome.fault and request.get("chain"))


def _with_deployment(attempt: Attempt, request: ItemRequest) -> ItemRequest:
    if not attempt.model:
        return request
    return {**request, "provider": provider_of(attempt.account), "model": attempt.model}


async def _call_once(
    context: ProviderContext, attempt: Attempt, request: ItemRequest
) -> TaskOutcome:
    provider = request["provider"]
    endpoint = context.endpoints.get(attempt.account) or context.endpoints.get(provider)
    if endpoint is None:
        return not_configured(attempt, context.missing.get(provider))
    started = time.perf_counter()
    longest_s = max(endpoint.timeout_s, MAX_TIMEOUT_S)
    timeout_s = min(endpoint.timeout_s * attempt.timeout_factor, longest_s, attempt.remaining_s)
    headers = context.header_reading.of_call(
        endpoint.row, attempt.account or attempt.lane, request["model"]
    )
    writer = None
    if "stream" in request and context.deltas is not None:
        writer = DeltaWriter(context.deltas, attempt)
    try:
        answer = await _traced_call(context, endpoint, request, attempt, timeout_s, writer, headers)
    except ProviderError as error:
        latency_ms = _since(started)
        context.calls.add_call(
            provider, request["model"], error.code, latency_ms, owner=attempt.owner
        )
        usage = usage_of(endpoint.row, attempt, request, None, headers)
        outcome = outcome_after(
            error,
            attempt,
            latency_ms,
            usage,
            max_retries=context.max_retries,
            has_alternative=_has_alternative(context, attempt, request),
        )
        if not isinstance(outcome, Finished) and writer is not None and writer.has_begun:
            # A client may have read a part of this answer, and another answer would not fit.
            failed = failed_result(error.code, error.message, error, attempt, latency_ms)
            outcome = Finished(failed, outcome.fault, usage)
        is_last = isinstance(outcome, Finished)
        retries_left = 0 if is_last else max(0, context.max_retries - attempt.number + 1)
        _log_failure(error, attempt, request, retries_left=retries_left)
        return outcome
    latency_ms = _since(started)
    context.calls.add_call(provider, request["model"], "", latency_ms, owner=attempt.owner)
    usage = usage_of(endpoint.row, attempt, request, answer, headers)
    return Finished(answer_result(answer, attempt, latency_ms), usage=usage)


def _has_alternative(context: ProviderContext, attempt: Attempt, request: ItemRequest) -> bool:
    has_several_keys = f"{provider_of(attempt.account)}#2" in context.endpoints
    return bool(attempt.model) or "chain" in request or has_several_keys


def _log_failure(
    error: ProviderError, attempt: Attempt, request: ItemRequest, *, retries_left: int
) -> None:
    """Logs a failed call.

    An item may run again although `retries_left` is 0, because some attempts are not counted.
    """
    log.info(
        "attempt_failed",
        job=attempt.item_id.job_id,
        item=attempt.item_id.request_index,
        provider=request["provider"],
        model=request["model"],
        attempt=attempt.number,
        code=error.code,
        status_code=error.status_code,
        reason=error.message,  # the message contains neither the key nor a part of the prompt
        retries_left=retries_left,
    )


async def _traced_call(
    context: ProviderContext,
    endpoint: Endpoint,
    request: ItemRequest,
    attempt: Attempt,
    timeout_s: float,
    writer: DeltaWriter | None,
    headers: CallHeaders | None,
) -> Answer:
    with context.tracer.attempt_span(request, attempt.item_id, attempt.number) as span:
        try:
            if writer is None:
                answer = await call(
                    context.client, endpoint, request, timeout_s=timeout_s, on_headers=headers
                )
            else:
                async with writer:
                    answer = await call(
                        context.client,
                        endpoint,
                        request,
                        timeout_s=timeout_s,
                        emit=writer.add,
                        on_headers=headers,
                    )
        except ProviderError as error:
            span.failed(error.code)
            raise
        span.answered(
            answer.content,
            answer.prompt_tokens,
            answer.completion_tokens,
            answer.finish_reason,
        )
        return answer


def _since(started: float) -> float:
    """Returns the milliseconds since `started`."""
    return round((time.perf_counter() - started) * 1000, 3)
