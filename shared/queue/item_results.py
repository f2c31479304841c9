"""Defines the result of an item: workers and scripts store it, the API reads it."""

from dataclasses import dataclass, fields
from typing import Any

import orjson

from shared.models import ErrorCode


@dataclass(slots=True)  # not frozen: each call creates one, which would take four times as long
class Result:
    """Holds the result of an item.

    message, choices, logprobs, usage: see `shared.dialects.dialect.Answer`.
    body: the provider's JSON as text, for a foreign request that was answered.
    route: one dict for each model that was tried before the request moved on, with `model`,
        `error_code` and `attempts`; None if the request has not moved.
    served_provider, served_model: the provider and the model that served a request for an alias;
        None for other requests.
    status_code: the HTTP status with which the provider refused the request; None for an answer,
        or if there was no response.
    refusal: `type`, `param` and `code` of the provider's error, and `wait_s`, the seconds after
        which the provider takes requests again. It has only the fields that the provider has sent.
    """

    content: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    finish_reason: str | None = None
    cost_usd: float | None = None
    latency_ms: float = 0.0
    queued_ms: float = 0.0
    retried_ms: float = 0.0
    attempts: int = 0
    error: str | None = None
    error_code: ErrorCode | None = None
    status_code: int | None = None
    refusal: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    choices: list[Any] | None = None
    logprobs: Any = None
    usage: dict[str, Any] | None = None
    body: str | None = None
    route: list[dict[str, Any]] | None = None
    served_provider: str | None = None
    served_model: str | None = None

    def to_json(self) -> bytes:
        """Returns the fields as JSON. A rare field is in the JSON only if it has a value.

        If the provider's JSON is nested too deeply for orjson, the JSON has no rare field.
        """
        # A dict that is written out takes less time than dataclasses.asdict or orjson for a
        # dataclass.
        common = {
            "content": self.content,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "finish_reason": self.finish_reason,
            "cost_usd": self.cost_usd,
            "latency_ms": self.latency_ms,
            "queued_ms": self.queued_ms,
            "retried_ms": self.retried_ms,
            "attempts": self.attempts,
            "error": self.error,
            "error_code": self.error_code,
        }
        rare = {name: value for name in _RARE if (value := getattr(self, name)) is not None}
        try:
            return orjson.dumps(common | rare if rare else common)
        except orjson.JSONEncodeError:  # the provider's JSON is nested too deeply
            return orjson.dumps(common)

    def to_dict(self) -> dict[str, Any]:
        # dataclasses.asdict makes deep copies, which take longer than building the rest of the
        # response.
        return {name: getattr(self, name) for name in _NAMES}


def read_fields(data: bytes | memoryview) -> dict[str, Any]:
    """Returns the fields of a stored result.

    A newer version may have written the result: unknown fields stay, and an unknown error code
    becomes `internal_error`.
    """
    values: dict[str, Any] = orjson.loads(data)
    if (code := values.get("error_code")) and code not in _CODES:
        values["error_code"] = ErrorCode.INTERNAL_ERROR
    return values


_CODES = frozenset(ErrorCode)
_NAMES = tuple(field.name for field in fields(Result))
_DEFAULTS = Result().to_dict()
_RARE = (
    "status_code",
    "refusal",
    "message",
    "choices",
    "logprobs",
    "usage",
    "body",
    "route",
    "served_provider",
    "served_model",
)


def parse_stored(stored: bytes) -> tuple[float, dict[str, Any]]:
    """Returns the time at which a script wrote a result, in ms, and the result's fields.

    A missing field has its default, because an older version may have written the result.
    `stored` is `<finished_ms> <result as JSON>`: see lua/lib/write_results.lua.
    """
    space = stored.index(b" ")
    result = memoryview(stored)[space + 1 :]  # not copied, because an answer may be large
    return float(stored[:space]), {**_DEFAULTS, **read_fields(result)}


CANCELLED = Result(error="the job was cancelled", error_code=ErrorCode.CANCELLED)
DEADLINE_EXCEEDED = Result(
    error="the request had not finished when the job's deadline passed",
    error_code=ErrorCode.DEADLINE_EXCEEDED,
)
WORKER_LOST = Result(
    error="several workers were lost while they ran the request, so the request does not run again",
    error_code=ErrorCode.WORKER_LOST,
)
BROKEN_STREAM = Result(
    error="the worker was lost or stopped after a part of the answer had been sent, so the request"
    " does not run again",
    error_code=ErrorCode.WORKER_LOST,
)
# lua/lib/waiting.lua fills in the provider or the alias, the reason of the latest failure, and the
# time without an answer.
WAITED_TOO_LONG = Result(
    error="%s %s; no call has succeeded for %.0f s, so the request does not wait any longer"
)
# Job's field finished_early_as → the result of the job's items without a stored result.
EARLY_RESULTS = {str(result.error_code): result for result in (CANCELLED, DEADLINE_EXCEEDED)}
