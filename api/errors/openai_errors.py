"""Writes refusals in the form of OpenAI's API, for every path under `/v1`.

The form is `{"error": {"message", "type", "param", "code"}}`. OpenAI's clients choose the class of
their exception by the status, and read `code` and `param`.
https://platform.openai.com/docs/guides/error-codes/api-errors
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Scope

from api.asgi_scope import path_below_prefix

PREFIX = "/v1"
MAX_LISTED_ERRORS = 5  # limit of the errors of one request that the message lists


@dataclass(eq=False)  # not frozen: Python sets an exception's traceback
class OpenAIError(Exception):
    """The request is refused, in the form of OpenAI's API.

    message: a text for a human reader.
    code: OpenAI's code for programs, such as `model_not_found`; None for the code of the status.
    param: the field that must change; None if no field is the cause.
    kind: OpenAI's `type`; None for the type of the status.
    retry: whether the same request can succeed later; None means yes, unless the status is 409.
    """

    status_code: int
    message: str
    code: str | None = None
    param: str | None = None
    kind: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry: bool | None = None


def is_openai(scope: Scope) -> bool:
    path = path_below_prefix(scope)
    return path.startswith(f"{PREFIX}/") or path == PREFIX


def error_content(error: OpenAIError) -> dict[str, str | None]:
    kind, code = _KINDS.get(error.status_code, _default_kind(error.status_code))
    return {
        "message": error.message,
        "type": error.kind or kind,
        "param": error.param,
        "code": error.code or code,
    }


def error_response(error: OpenAIError) -> JSONResponse:
    headers = {**_retry_headers(error), **error.headers}
    return JSONResponse({"error": error_content(error)}, error.status_code, headers=headers)


def validation_refusal(details: list[dict[str, Any]]) -> OpenAIError:
    """Returns a 400 for invalid fields. `param` is the first of these fields.

    `details` are the errors of a RequestValidationError.
    """
    texts = []
    for detail in details[:MAX_LISTED_ERRORS]:
        param, message = _param(detail["loc"]), detail["msg"].removeprefix("Value error, ")
        texts.append(f"{param}: {message}" if param else message)
    if more := len(details) - len(texts):
        texts.append(f"and {more} more errors")
    param = _param(details[0]["loc"]) if details else None
    return OpenAIError(HTTPStatus.BAD_REQUEST, "; ".join(texts), param=param)


def unknown_url(scope: Scope) -> OpenAIError:
    return OpenAIError(
        HTTPStatus.NOT_FOUND,
        f"this server has no {scope['method']} {path_below_prefix(scope)}; the page /docs lists"
        " the requests that it accepts",
    )


# Status → type, and the code of a refusal that has no code of its own.
_KINDS: dict[int, tuple[str, str | None]] = {
    HTTPStatus.UNAUTHORIZED: ("invalid_request_error", "invalid_api_key"),
    HTTPStatus.TOO_MANY_REQUESTS: ("requests", "rate_limit_exceeded"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("server_error", "server_is_overloaded"),
}


def _default_kind(status_code: int) -> tuple[str, str | None]:
    is_server = status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
    return ("server_error" if is_server else "invalid_request_error"), None


# OpenAI's clients repeat a request after these statuses and after 5xx.
_REPEATED = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}


def _retry_headers(error: OpenAIError) -> dict[str, str]:
    """Returns the headers that tell OpenAI's clients whether and when to repeat the request.

    The clients read Retry-After only if `retry-after-ms` is missing. If the wait is longer than
    120 s, the client for Python does not repeat the request, whatever `x-should-retry` is.
    """
    headers = {}
    status = error.status_code
    if status in _REPEATED or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        retry = status != HTTPStatus.CONFLICT if error.retry is None else error.retry
        headers["x-should-retry"] = "true" if retry else "false"
    retry_after = error.headers.get("Retry-After")
    if retry_after is not None and "retry-after-ms" not in error.headers:
        headers["retry-after-ms"] = str(round(float(retry_after) * 1000))
    return headers


def _param(location: tuple[str | int, ...]) -> str | None:
    """Returns the name of the field at a location of a RequestValidationError, or None."""
    if location and location[0] in {"body", "query", "path", "header"}:
        location = location[1:]
    return param_name(location)


def param_name(path: Sequence[str | int]) -> str | None:
    """Returns a path as OpenAI writes it, such as `messages[0].content`; None for an empty path."""
    name = ""
    for part in path:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name or None
