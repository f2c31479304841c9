"""Makes the exception for an invalid request."""

from fastapi.exceptions import RequestValidationError


def validation_error(message: str, *location: str | int) -> RequestValidationError:
    """Returns the exception for a field. Its response is a 422, or a 400 under `/v1`.

    `location` is a path as in pydantic's errors, such as `"body", "completion_window"`.
    """
    return RequestValidationError([{"type": "value_error", "loc": location, "msg": message}])
