"""Reads the body of a live call: one request to OpenAI's API, without a file around it."""

from collections.abc import Mapping
from hashlib import blake2b
from http import HTTPStatus

from api.openai.errors import OpenAIError
from api.requests.json_members import InvalidJson, Member, object_members
from api.requests.vendor_line import InvalidLine
from api.requests.vendor_requests import UnknownModel, VendorOptions, VendorRequests
from shared.dialects.dialect import Operation
from shared.jobs.new_item import NewItem
from shared.providers import Catalogue


def read_call(
    body: bytes,
    operation: Operation,
    catalogue: Catalogue,
    default_provider: str | None,
    options: VendorOptions,
) -> NewItem:
    """Returns the item of a call. Raises OpenAIError 400 or 404."""
    try:
        members = object_members(body.decode())
        _refuse_stream(members)
        return VendorRequests(catalogue, default_provider, options).live_call(members, operation)
    except UnicodeDecodeError:
        raise OpenAIError(HTTPStatus.BAD_REQUEST, "the body is not UTF-8") from None
    except InvalidJson as error:
        message = f"the body must be a JSON object: {error}"
        raise OpenAIError(HTTPStatus.BAD_REQUEST, message) from None
    except UnknownModel as error:
        raise OpenAIError(
            HTTPStatus.NOT_FOUND, str(error), code="model_not_found", param="model"
        ) from None
    except InvalidLine as error:
        param = ".".join(map(str, error.path)) or None
        raise OpenAIError(HTTPStatus.BAD_REQUEST, str(error), param=param) from None


def _refuse_stream(members: Mapping[str, Member]) -> None:
    if (stream := members.get("stream")) and stream.value not in {False, None}:
        raise InvalidLine("streams are not supported yet; leave `stream` out", "stream")


def call_digest(body: bytes, operation: Operation, options: VendorOptions) -> str:
    """Returns a digest that two calls share only if they ask for the same."""
    asked = f"{operation} {options.provider} {options.model}\n".encode()
    return blake2b(asked + body, digest_size=16).hexdigest()
