"""Makes results of requests, as the API reads them."""

from datetime import UTC, datetime
from typing import Any

from shared.jobs.views import StoredJob, job_summary, response
from shared.models import Job, LLMResponse


def finished(**fields: Any) -> LLMResponse:
    """Returns a response: an answer, or a failure if `fields` have an error."""
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


def whole_job(stored: StoredJob) -> Job:
    """Returns the job with its results, which must be small."""
    snapshot = stored.snapshot
    responses = [
        response(meta, (snapshot.results or {}).get(index), snapshot)
        for index, meta in enumerate(snapshot.metas or ())
    ]
    return Job(**dict(job_summary(stored.job_id, snapshot)), responses=responses)
