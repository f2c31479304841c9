"""Makes results of requests, as the API reads them."""

from datetime import UTC, datetime
from typing import Any

from shared.models import LLMResponse


def finished(**fields: Any) -> LLMResponse:
    """Returns an answer, or an error if `fields` have one."""
    given: dict[str, Any] = {
        "request_id": None,
        "provider": "p",
        "model": "m",
        "content": "",
        "prompt_tokens": 3,
    }
    given |= {"completion_tokens": 0, "total_tokens": 3, "latency_ms": 1, "error": None}
    given |= {"error_code": None, "attempts": 1, "finish_reason": None, "cost_usd": None}
    given |= {"queued_ms": 1, "retried_ms": 0, "timestamp": datetime.fromtimestamp(7, UTC)}
    return LLMResponse.model_validate(given | fields)
