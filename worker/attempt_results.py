"""Builds the stored result of an attempt, and its fault."""

from typing import Any

from shared.dialects.dialect import Answer
from shared.models import ErrorCode
from shared.queue.item_results import Result
from shared.queue.leases import Fault
from shared.queue.verdict import Verdict
from worker.outcomes import Attempt, Finished
from worker.providers.errors import ProviderError

_FIRST_ERROR_STATUS = 400


def fault_of(error: ProviderError) -> Fault:
    """Returns the fault. The queue decides what the fault means for other items."""
    return Fault(
        error.verdict,
        error.reason,
        error.code,
        status_code=_refusal_status(error),
        wait_s=error.wait_s,
        covers_account=error.covers_account,
    )


def failed_result(
    code: ErrorCode, message: str, error: ProviderError, attempt: Attempt, latency_ms: float
) -> Result:
    """Returns the result of an attempt that failed. `code` may differ from the error's code."""
    return Result(
        error=message,
        error_code=code,
        status_code=_refusal_status(error),
        refusal=_refusal(error),
        latency_ms=latency_ms,
        attempts=attempt.calls,
        queued_ms=attempt.queued_ms,
        retried_ms=attempt.retried_ms,
        route=attempt.route,
        served_provider=attempt.served_provider,
        served_model=attempt.served_model,
    )


def _refusal(error: ProviderError) -> dict[str, Any] | None:
    wait = {} if error.wait_s is None else {"wait_s": error.wait_s}
    return {**error.names, **wait} or None


def _refusal_status(error: ProviderError) -> int | None:
    is_refusal = error.status_code is not None and error.status_code >= _FIRST_ERROR_STATUS
    return error.status_code if is_refusal else None


def not_configured(attempt: Attempt, reason: str | None) -> Finished:
    """Returns the outcome of an item whose provider this worker cannot call.

    reason: None if the worker does not know the provider.
    """
    # The worker does not know the provider if the API that accepted the item reads another
    # providers.toml.
    reason = reason or "the worker does not know this provider: give it the API's PROVIDERS_FILE"
    code = ErrorCode.PROVIDER_NOT_CONFIGURED
    result = Result(
        error=reason,
        error_code=code,
        attempts=attempt.calls - 1,
        queued_ms=attempt.queued_ms,
        retried_ms=attempt.retried_ms,
        route=attempt.route,
        served_provider=attempt.served_provider,
        served_model=attempt.served_model,
    )
    return Finished(result, Fault(Verdict.NOT_CONFIGURED, reason, code, ignored=True))


def answer_result(answer: Answer, attempt: Attempt, latency_ms: float) -> Result:
    return Result(
        content=answer.content,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        total_tokens=answer.total_tokens,
        finish_reason=answer.finish_reason,
        cost_usd=answer.cost_usd,
        message=answer.message,
        choices=answer.choices,
        logprobs=answer.logprobs,
        usage=_details(answer.usage),
        body=answer.body,
        latency_ms=latency_ms,
        attempts=attempt.calls,
        queued_ms=attempt.queued_ms,
        retried_ms=attempt.retried_ms,
        route=attempt.route,
        served_provider=attempt.served_provider,
        served_model=attempt.served_model,
    )


def _details(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    """Returns the usage if it has a field that the result does not have; otherwise None."""
    return usage if usage and not usage.keys() <= _REPORTED else None


_REPORTED = {
    *("prompt_tokens", "completion_tokens", "total_tokens", "cost"),
    # Ollama's names; the durations are in ns
    *("prompt_eval_count", "eval_count", "prompt_eval_duration", "eval_duration"),
    *("total_duration", "load_duration"),
}
