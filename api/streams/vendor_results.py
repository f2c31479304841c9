"""Writes results in the format in which a vendor returns the results of its own batches.

https://platform.openai.com/docs/guides/batch#5-retrieve-the-results
https://docs.anthropic.com/en/api/retrieving-message-batch-results
https://ai.google.dev/gemini-api/docs/batch-api
"""

from collections.abc import Callable
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import orjson

from api.errors.exception_types import FormatMismatch
from api.errors.openai_call_errors import call_error
from api.errors.openai_errors import error_content
from api.media_types import NDJSON
from api.requests.formats import RequestFormat
from shared.jobs.new_item import default_request_id
from shared.models import ErrorCode, JobItem, JobSummary


class ResultFormat(StrEnum):
    NATIVE = "native"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


# The formats of requests whose results can be written in a vendor's format.
_REQUESTS = {
    ResultFormat.OPENAI: {RequestFormat.NATIVE, RequestFormat.OPENAI, RequestFormat.OPENAI_BATCH},
    ResultFormat.ANTHROPIC: {RequestFormat.ANTHROPIC, RequestFormat.ANTHROPIC_BATCH},
    ResultFormat.GEMINI: {RequestFormat.GEMINI, RequestFormat.GEMINI_BATCH},
}


class VendorFormat:
    """Encodes a stream of items in the format of a vendor, one line per item."""

    media_type = NDJSON

    def __init__(self, job_id: str, line: Callable[[str, JobItem], dict[str, Any]]) -> None:
        self._job_id = job_id
        self._line = line

    def item(self, item: JobItem) -> bytes:
        line = self._line(self._job_id, item)
        if item.metadata is not None:
            line["metadata"] = orjson.Fragment(item.metadata)
        return orjson.dumps(line) + b"\n"

    def summary(self, summary: JobSummary) -> bytes:  # noqa: ARG002 — vendors' result files have no summary
        return b""


def vendor_format(result_format: ResultFormat, job: JobSummary) -> VendorFormat:
    """Returns the encoder of the job's results in a vendor's format.

    Raises FormatMismatch unless the job's requests permit this format: see `_REQUESTS`.
    """
    if job.format not in _REQUESTS[result_format]:
        possible = [name for name, requests in _REQUESTS.items() if job.format in requests]
        raise FormatMismatch(
            f"the job's requests have the format {job.format}; the format of its results must be"
            f" {' or '.join([*possible, ResultFormat.NATIVE])}"
        )
    if result_format is ResultFormat.OPENAI:
        return openai_format(job.job_id, job.format)
    return VendorFormat(job.job_id, _LINES[result_format])


def openai_format(job_id: str, request_format: str) -> VendorFormat:
    """Returns the encoder of a job's results in OpenAI's format.

    The answers of requests that are not native stay as the provider sent them.
    """
    is_native = request_format == RequestFormat.NATIVE
    return VendorFormat(job_id, _openai if is_native else _openai_unchanged)


def _openai_unchanged(job_id: str, item: JobItem) -> dict[str, Any]:
    return _openai_line(job_id, item, _body(item))


def _openai(job_id: str, item: JobItem) -> dict[str, Any]:
    return _openai_line(job_id, item, _chat_completion(job_id, item))


def _openai_line(job_id: str, item: JobItem, answer: object) -> dict[str, Any]:
    response = error = None
    if item.error is None:
        response = _openai_response(job_id, item, HTTPStatus.OK, answer)
    elif item.status_code is not None:
        body = {"error": error_content(call_error(item))}
        response = _openai_response(job_id, item, item.status_code, body)
    else:
        code = _OPENAI_CODES.get(item.error_code, item.error_code)  # type: ignore[arg-type]
        error = {"code": code, "message": item.error}
    return {
        "id": f"batch_req_{job_id}_{item.index}",
        "custom_id": item.request_id or default_request_id(item.index),
        "response": response,
        "error": error,
    }


_OPENAI_CODES: dict[ErrorCode, str] = {
    ErrorCode.CANCELLED: "batch_cancelled",
    ErrorCode.DEADLINE_EXCEEDED: "batch_expired",
}


def _openai_response(job_id: str, item: JobItem, status_code: int, body: object) -> dict[str, Any]:
    request_id = f"{job_id}-{item.index}"
    return {"status_code": status_code, "request_id": request_id, "body": body}


def _body(item: JobItem) -> orjson.Fragment:
    """Returns the body that the provider sent, or null if the item has no body.

    An item has no body if the client asked for results without answers.
    """
    return orjson.Fragment(item.body or "null")


def _chat_completion(job_id: str, item: JobItem) -> dict[str, Any]:
    """Returns the body that OpenAI would return for a native request."""
    message = {"role": "assistant", "content": item.content, **(item.message or {})}
    choice = {"index": 0, "message": _json(message), "logprobs": _json(item.logprobs)}
    choice["finish_reason"] = item.finish_reason
    usage = {
        "prompt_tokens": item.prompt_tokens,
        "completion_tokens": item.completion_tokens,
        "total_tokens": item.total_tokens,
    }
    return {
        "id": f"chatcmpl-{job_id}-{item.index}",
        "object": "chat.completion",
        "created": int(item.timestamp.timestamp()),
        "model": item.model,
        "choices": _json(item.choices) if item.choices else [choice],
        "usage": _json(item.usage or usage),
    }


def _json(value: object) -> orjson.Fragment:
    """Returns the JSON of a part of a line.

    orjson limits how deeply arrays and objects are nested. The part is within the limit, because
    the worker has stored it. Encoded together with the objects around it, it could exceed the
    limit.
    """
    return orjson.Fragment(orjson.dumps(value))


def _anthropic(_job_id: str, item: JobItem) -> dict[str, Any]:
    result: dict[str, Any]
    if item.error is None:
        result = {"type": "succeeded", "message": _body(item)}
    elif item.error_code is ErrorCode.CANCELLED:
        result = {"type": "canceled"}
    elif item.error_code is ErrorCode.DEADLINE_EXCEEDED:
        result = {"type": "expired"}
    else:
        kind = _ANTHROPIC_TYPES.get(item.error_code, "api_error")  # type: ignore[arg-type]
        error = {"type": "error", "error": {"type": kind, "message": item.error}}
        result = {"type": "errored", "error": error}
    return {"custom_id": item.request_id or default_request_id(item.index), "result": result}


# https://docs.anthropic.com/en/api/errors
_ANTHROPIC_TYPES: dict[ErrorCode, str] = {
    ErrorCode.INVALID_REQUEST: "invalid_request_error",
    ErrorCode.CONTEXT_TOO_LONG: "invalid_request_error",
    ErrorCode.CONTENT_FILTERED: "invalid_request_error",
    ErrorCode.UNAUTHORIZED: "authentication_error",
    ErrorCode.PAYMENT_REQUIRED: "billing_error",
    ErrorCode.QUOTA_EXHAUSTED: "billing_error",
    ErrorCode.MODEL_NOT_FOUND: "not_found_error",
    ErrorCode.RATE_LIMITED: "rate_limit_error",
    ErrorCode.OVERLOADED: "overloaded_error",
    ErrorCode.TIMEOUT: "timeout_error",
}


def _gemini(_job_id: str, item: JobItem) -> dict[str, Any]:
    key = {} if item.request_id is None else {"key": item.request_id}
    if item.error is None:
        return {**key, "response": _body(item)}
    status, code = _GEMINI_STATUSES.get(item.error_code, ("INTERNAL", 500))  # type: ignore[arg-type]
    error = {"code": item.status_code or code, "message": item.error, "status": status}
    return {**key, "error": error}


# https://cloud.google.com/apis/design/errors#handling_errors
_GEMINI_STATUSES: dict[ErrorCode, tuple[str, int]] = {
    ErrorCode.INVALID_REQUEST: ("INVALID_ARGUMENT", 400),
    ErrorCode.CONTEXT_TOO_LONG: ("INVALID_ARGUMENT", 400),
    ErrorCode.CONTENT_FILTERED: ("INVALID_ARGUMENT", 400),
    ErrorCode.UNAUTHORIZED: ("UNAUTHENTICATED", 401),
    ErrorCode.MODEL_NOT_FOUND: ("NOT_FOUND", 404),
    ErrorCode.RATE_LIMITED: ("RESOURCE_EXHAUSTED", 429),
    ErrorCode.QUOTA_EXHAUSTED: ("RESOURCE_EXHAUSTED", 429),
    ErrorCode.CANCELLED: ("CANCELLED", 499),
    ErrorCode.TIMEOUT: ("DEADLINE_EXCEEDED", 504),
    ErrorCode.DEADLINE_EXCEEDED: ("DEADLINE_EXCEEDED", 504),
    ErrorCode.CONNECTION_ERROR: ("UNAVAILABLE", 503),
    ErrorCode.OVERLOADED: ("UNAVAILABLE", 503),
}

_LINES: dict[ResultFormat, Callable[[str, JobItem], dict[str, Any]]] = {
    ResultFormat.ANTHROPIC: _anthropic,
    ResultFormat.GEMINI: _gemini,
}
