"""Sends requests to an LLM batch orchestrator and reads their results, sync and async.

client = Client("http://localhost:8000")
requests = [
    {
        "request_id": row["id"],
        "provider": "ollama",
        "model": "deepseek-r1:8b",
        "messages": [{"role": "user", "content": row["question"]}],
    }
    for row in rows
]
job = client.submit(requests)
for item in client.results(job.job_id):
    print(item.request_id, item.content or item.error)

`pandas.DataFrame(item.model_dump() for item in client.results(job.job_id))` is a table of the
results; join it with your rows by `request_id`.

If you submit the same requests again, you get the same job: see `Client.submit`.
"""

from orchestrator_client.async_client import AsyncClient
from orchestrator_client.errors import (
    ConnectionFailed,
    InvalidConfiguration,
    InvalidResponse,
    OrchestratorError,
    RequestRejected,
    ServiceUnavailable,
)
from orchestrator_client.models import (
    BatchLLMResponse,
    Deployment,
    Job,
    JobItem,
    JobStatus,
    JobSummary,
    Lane,
    LaneStats,
    LLMResponse,
    ModelStats,
    Notice,
    Order,
    Outcome,
    Overview,
    RequestFormat,
    ResultFormat,
    WebhookStatus,
    WorkerView,
)
from orchestrator_client.request_lines import Request
from orchestrator_client.sync_client import Client

__all__ = [
    "AsyncClient",
    "BatchLLMResponse",
    "Client",
    "ConnectionFailed",
    "Deployment",
    "InvalidConfiguration",
    "InvalidResponse",
    "Job",
    "JobItem",
    "JobStatus",
    "JobSummary",
    "LLMResponse",
    "Lane",
    "LaneStats",
    "ModelStats",
    "Notice",
    "OrchestratorError",
    "Order",
    "Outcome",
    "Overview",
    "Request",
    "RequestFormat",
    "RequestRejected",
    "ResultFormat",
    "ServiceUnavailable",
    "WebhookStatus",
    "WorkerView",
]
