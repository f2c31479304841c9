"""Makes the exception for an invalid request, whose response is a 422."""

from fastapi.exceptions import RequestValidationError


def validation_error(message: str, *location: str | int) -> RequestValidationError:
    """Returns a validation error like pydantic's own, for a 422 response in the same format."""
    return RequestValidationError([{"type": "value_error", "loc": location, "msg": message}])
