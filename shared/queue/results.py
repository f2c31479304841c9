"""The result of one item, as a worker (or a script) stores it and the API reads it."""

from dataclasses import dataclass, fields
from typing import Any

import orjson

from shared.models import ErrorCode


@dataclass(frozen=True, slots=True)
class Result:
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

    def to_json(self) -> bytes:
        return orjson.dumps(self)

    def to_dict(self) -> dict[str, Any]:
        """Not `dataclasses.asdict`, whose deep copies cost more than all the rest of an answer."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_json(cls, data: bytes) -> "Result":
        """Tolerant: a field that a newer version added is passed over, its error codes are one."""
        values = orjson.loads(data)
        if (code := values.get("error_code")) and code not in _CODES:
            values["error_code"] = ErrorCode.INTERNAL_ERROR
        return cls(**{name: values[name] for name in _NAMES if name in values})


_CODES = frozenset(ErrorCode)
_NAMES = tuple(field.name for field in fields(Result))

CANCELLED = Result(error="cancelled", error_code=ErrorCode.CANCELLED)
DEADLINE_EXCEEDED = Result(
    error="not done when the job's deadline was over", error_code=ErrorCode.DEADLINE_EXCEEDED
)
WORKER_LOST = Result(
    error="given up: the worker that ran it died three times", error_code=ErrorCode.WORKER_LOST
)
# Of the items that had no result when their job was ended.
ENDED_AS = {str(result.error_code): result for result in (CANCELLED, DEADLINE_EXCEEDED)}
