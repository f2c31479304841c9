"""Finds an error in the JSON of a response with status 200."""

import re
from typing import Any

from shared.dialects.dialect import ErrorInBody

BAD_GATEWAY = 502  # status of an error that names no known status
_STATUSES = {  # HTTP statuses by the words of OpenAI and Anthropic
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "context_length_exceeded": 400,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "server_is_overloaded": 503,
    "overloaded_error": 529,
}


def raise_error(error: object) -> None:
    """Raises ErrorInBody if `error`, the value of a field named `error`, reports an error.

    Empty values such as `{}` and "", numbers, and objects that have only empty values report no
    error: some providers send these with good answers.
    """
    if not error:
        return
    if isinstance(error, dict):
        if any(error.values()):
            raise ErrorInBody(_status(error), error)
    elif isinstance(error, str | list):
        raise ErrorInBody(BAD_GATEWAY, error)


def _status(error: dict[str, Any]) -> int:
    """Returns the HTTP status that corresponds to the error; 502 if no field says which."""
    for name in ("code", "status", "type"):
        text = str(error.get(name))
        if re.fullmatch(r"[45][0-9]{2}", text):
            return int(text)
        if text in _STATUSES:
            return _STATUSES[text]
    return BAD_GATEWAY
