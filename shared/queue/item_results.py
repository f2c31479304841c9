"""The result of an item, as workers and scripts store it and the API reads it."""

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
        """Avoids `dataclasses.asdict`: its deep copies cost more than the rest of an answer."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_json(cls, data: bytes) -> "Result":
        """Ignores unknown fields and reads unknown error codes as `internal_error`: a newer version
        may have written them."""
        values = orjson.loads(data)
        if (code := values.get("error_code")) and code not in _CODES:
            values["error_code"] = ErrorCode.INTERNAL_ERROR
        return cls(**{name: values[name] for name in _NAMES if name in values})


_CODES = frozenset(ErrorCode)
_NAMES = tuple(field.name for field in fields(Result))


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result and the time when the script that wrote it ran."""

    finished_ms: float
    result: Result

    @classmethod
    def parse(cls, stored: bytes) -> "StoredResult":
        """Parses `<finished_ms> <result as JSON>`: see lua/lib/results.lua."""
        finished_ms, _, result = stored.partition(b" ")
        return cls(float(finished_ms), Result.from_json(result))


CANCELLED = Result(error="cancelled", error_code=ErrorCode.CANCELLED)
DEADLINE_EXCEEDED = Result(
    error="not finished before the job's deadline", error_code=ErrorCode.DEADLINE_EXCEEDED
)
WORKER_LOST = Result(
    error="given up: every worker that ran it was lost", error_code=ErrorCode.WORKER_LOST
)
# By a job's finished_early_as: the result of its items that have none.
EARLY_RESULTS = {str(result.error_code): result for result in (CANCELLED, DEADLINE_EXCEEDED)}
