"""Writes an error in OpenAI's format under `/v1`, and as `{"detail": …}` at other paths.

The texts are in error_responses.py and in the middleware.
"""

from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import Scope

from api.errors.openai_errors import OpenAIError, error_response, is_openai


def refusal(
    scope: Scope, status_code: int, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    if is_openai(scope):
        return error_response(OpenAIError(status_code, detail, headers=headers or {}))
    return JSONResponse({"detail": detail}, status_code, headers=headers)
