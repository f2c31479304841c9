"""Tests that the OpenAPI document is complete, and that the application behaves as documented."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.examples import SEED_EXAMPLE
from support.search_depth import examples
from support.stack import Stack

from shared.providers import PROVIDERS
from shared.queue.redis_keys import Keys

pytestmark = pytest.mark.no_cover  # the API is another process, and counting slows this one

CHECKS: list[schemathesis.CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@pytest.fixture(scope="module")
def deployment(valkey_url: str) -> Iterator[Stack]:
    with asyncio.Runner() as runner:
        stack = Stack(valkey_url, Keys(f"test-{uuid4().hex}:"), {"MAX_RETRIES": "0"})
        try:
            runner.run(stack.start(workers=1))
            yield stack
        finally:
            runner.run(stack.stop())


@pytest.fixture(scope="module")
def url(deployment: Stack) -> str:
    return str(deployment.api.base_url)


@pytest.fixture(scope="module")
def api_schema(url: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


ENDPOINTS = [
    ("GET", "/health"),
    ("GET", "/health/ready"),
    ("POST", "/batch"),
    ("GET", "/jobs/{job_id}"),
    ("DELETE", "/jobs/{job_id}"),
    ("POST", "/jobs"),
    ("GET", "/jobs"),
    ("POST", "/jobs/{job_id}/retry"),
    ("GET", "/jobs/{job_id}/results"),
    ("GET", "/jobs/{job_id}/events"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/{file_id}"),
    ("GET", "/v1/files/{file_id}/content"),
    ("DELETE", "/v1/files/{file_id}"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches"),
    ("GET", "/v1/batches/{batch_id}"),
    ("POST", "/v1/batches/{batch_id}/cancel"),
    ("GET", "/overview"),
    ("GET", "/history"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*endpoint, schemathesis.GenerationMode.POSITIVE) for endpoint in ENDPOINTS]
    # For other endpoints no input can be invalid: any string is a valid id.
    + [("POST", "/batch", schemathesis.GenerationMode.NEGATIVE)],
)
def test_responses_to_generated_requests_are_as_documented(
    api_schema: schemathesis.BaseSchema, method: str, path: str, mode: schemathesis.GenerationMode
) -> None:
    """Sends requests that the document allows, and requests that the document does not allow."""
    operation = api_schema[path][method]

    @seed(0)
    @settings(
        # The number is per endpoint; all fields of a request are generated each time.
        max_examples=examples(10, full=200),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def answered(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    answered()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("GET", "/results"), ("GET", "/events")],
)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_responses_for_a_job_are_as_documented(
    api_schema: schemathesis.BaseSchema, url: str, method: str, path: str, mode: str
) -> None:
    batch = httpx.post(f"{url}/batch", params={"mode": mode}, json=SEED_EXAMPLE, timeout=60)
    job_id = batch.headers["location"].removeprefix("/jobs/")

    operation = api_schema[f"/jobs/{{job_id}}{path}"][method]
    case = operation.Case(path_parameters={"job_id": job_id})
    response = case.call_and_validate(checks=CHECKS)

    assert response.status_code == 200


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_responses_for_a_batch_are_as_documented(
    api_schema: schemathesis.BaseSchema, mode: str
) -> None:
    case = api_schema["/batch"]["POST"].Case(
        query={"mode": mode}, body=SEED_EXAMPLE, media_type="application/json"
    )
    response = case.call_and_validate(checks=CHECKS)

    assert response.status_code == {"sync": 200, "async": 202}[mode]


@pytest.fixture
def document(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{url}/openapi.json").json()
    return found


def test_every_status_is_documented(document: dict[str, Any]) -> None:
    statuses = {
        (method, path): set(operation["responses"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }

    usual = {"401", "422", "503"}
    live = {"200", "400", "401", "403", "404", "408", "409", "413", "415", "429"}
    live |= {"500", "502", "503", "504"}
    read = {"200", "401", "404", "503"}
    stored = read | {"400", "408", "413", "415", "429"}
    submission = usual | {"202", "400", "408", "409", "413", "415", "429"}
    assert statuses == {
        ("get", "/health"): {"200"},
        ("get", "/health/ready"): {"200", "503"},
        ("post", "/batch"): submission | {"200"},
        ("post", "/jobs"): submission,
        ("get", "/jobs"): usual | {"200", "400"},
        ("get", "/jobs/{job_id}"): usual | {"200", "404"},
        ("delete", "/jobs/{job_id}"): usual | {"200", "404"},
        ("post", "/jobs/{job_id}/retry"): usual | {"202", "404", "409"},
        ("get", "/jobs/{job_id}/results"): usual | {"200", "400", "404"},
        ("get", "/jobs/{job_id}/events"): usual | {"200", "204", "400", "404"},
        ("post", "/v1/chat/completions"): live,
        ("post", "/v1/embeddings"): live,
        ("post", "/v1/responses"): live,
        ("get", "/v1/models"): {"200", "401", "503"},
        ("get", "/v1/models/{model}"): {"200", "401", "404", "503"},
        ("post", "/v1/files"): stored,
        ("get", "/v1/files"): read | {"400"},
        ("get", "/v1/files/{file_id}"): read,
        ("get", "/v1/files/{file_id}/content"): read,
        ("delete", "/v1/files/{file_id}"): read,
        ("post", "/v1/batches"): stored | {"409"},
        ("get", "/v1/batches"): read | {"400"},
        ("get", "/v1/batches/{batch_id}"): read,
        ("post", "/v1/batches/{batch_id}/cancel"): read | {"400"},
        ("get", "/overview"): {"200", "401", "503"},
        ("get", "/overview/events"): {"200", "401", "503"},
        ("get", "/history"): {"200", "401", "503"},
        ("get", "/metrics"): {"200", "401"},
    }


def test_every_endpoint_is_in_a_section_of_the_docs(document: dict[str, Any]) -> None:
    sections = {
        tag
        for operations in document["paths"].values()
        for operation in operations.values()
        for tag in operation.get("tags", ["none"])
    }

    assert sections == {tag["name"] for tag in document["tags"]}


def test_every_endpoint_is_tested(document: dict[str, Any]) -> None:
    documented = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }

    endless = {("GET", "/overview/events")}  # test_page_overview reads it
    assert documented == set(ENDPOINTS) | endless


def test_every_model_is_documented(document: dict[str, Any]) -> None:
    assert set(document["components"]["schemas"]) >= {
        "BatchLLMRequest",
        "BatchLLMResponse",
        "ErrorCode",
        "Health",
        "JobStatus",
        "Job",
        "LLMRequest",
        "LLMResponse",
        "Message",
        "Readiness",
        "Refusal",
        "Role",
    }


def test_example_is_that_of_the_contract(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["BatchLLMRequest"]["example"] == SEED_EXAMPLE


def test_ranges_and_defaults_are_documented(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    request = schemas["LLMRequest"]["properties"]

    def limits(described: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in described.items() if k not in {"title", "description"}}

    assert limits(request["provider"]) == {"type": "string", "enum": list(PROVIDERS)}
    assert limits(request["temperature"]) == {
        "type": "number",
        "minimum": 0.0,
        "maximum": 2.0,
        "default": 0.7,
    }
    assert limits(request["max_tokens"]) == {
        "type": "integer",
        "minimum": 1,
        "maximum": 32_000,
        "default": 1000,
    }
    assert limits(request["messages"]) == {
        "type": "array",
        "items": {"$ref": "#/components/schemas/Message"},
        "minItems": 1,
        "maxItems": 10_000,
    }
    assert limits(schemas["BatchLLMRequest"]["properties"]["requests"]) == {
        "type": "array",
        "items": {"$ref": "#/components/schemas/LLMRequest"},
        "minItems": 1,
        "maxItems": 100,
    }
    assert limits(schemas["Message"]["properties"]["content"]) == {
        "type": "string",
        "minLength": 1,
        "maxLength": 50_000,
    }
    assert schemas["Role"]["enum"] == ["system", "user", "assistant", "developer", "tool"]
