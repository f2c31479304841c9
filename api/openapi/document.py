"""Builds the OpenAPI document."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.errors.openai_errors import PREFIX
from api.openai.batch_schemas import NewBatch
from api.openapi.responses import SCHEMA
from api.openapi.tags import TAGS
from shared.models import BatchLLMRequest, JobItem, LLMRequest


def openapi_document(app: FastAPI, providers: list[str]) -> dict[str, Any]:
    """Returns the OpenAPI document. `providers` are the values of `provider` in a request.

    Adds the models that routes read or stream themselves, because FastAPI does not know these.
    """
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=TAGS,
        )
        for path, operations in document["paths"].items():
            if path.startswith(f"{PREFIX}/"):
                for operation in operations.values():
                    operation["responses"].pop("422", None)  # OpenAI's API answers 400
        schemas = document["components"]["schemas"]
        for model in (BatchLLMRequest, LLMRequest, JobItem, NewBatch):
            schema = model.model_json_schema(ref_template=SCHEMA)
            schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
        schemas[LLMRequest.__name__]["properties"]["provider"]["enum"] = providers
        app.openapi_schema = document
    return app.openapi_schema
