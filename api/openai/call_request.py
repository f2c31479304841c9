"""Reads the body of a live call: one request to OpenAI's API, not a line of a batch file."""

from collections.abc import Mapping
from hashlib import blake2b
from http import HTTPStatus
from typing import Any

from api.errors.openai_errors import OpenAIError
from api.requests.json_members import InvalidJson, Member, object_members
from api.requests.vendor_line import InvalidLine
from api.requests.vendor_requests import UnknownModel, VendorOptions, VendorRequests
from shared.dialects.dialect import Operation
from shared.jobs.new_item import NewItem
from shared.providers import Catalogue


def read_call(
    body: bytes | bytearray,
    operation: Operation,
    catalogue: Catalogue,
    default_provider: str | None,
    options: VendorOptions,
) -> NewItem:
    """Returns the item of a call. Raises OpenAIError 400 or 404.

    If the client asks for a stream, the field `stream` of the item's request is the client's
    `stream_options`.
    """
    try:
        members = object_members(body.decode())
        stream = _stream_options(members, operation)
        item = VendorRequests(catalogue, default_provider, options).live_call(members, operation)
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
    if stream is not None:
        item.request["stream"] = stream
    return item


def _stream_options(members: Mapping[str, Member], operation: Operation) -> dict[str, Any] | None:
    """Returns the client's `stream_options`, by default {}.

    Returns None if the client does not ask for a stream. Raises InvalidLine.
    """
    stream, options = (
        members[name].value if name in members else None for name in ("stream", "stream_options")
    )
    if not (stream is None or isinstance(stream, bool)):
        raise InvalidLine("must be true or false", "stream")
    if not stream:
        return None
    if operation is Operation.EMBEDDINGS:
        raise InvalidLine("embeddings are not streamed", "stream")
    if not (options is None or isinstance(options, dict)):
        raise InvalidLine("must be an object", "stream_options")
    return options or {}


def call_digest(body: bytes | bytearray, operation: Operation, options: VendorOptions) -> str:
    """Returns a digest. Calls of an owner with the same digest ask for the same answer."""
    asked = f"{operation} {options.provider} {options.model}\n".encode()
    digest = blake2b(asked, digest_size=16)
    digest.update(body)
    return digest.hexdigest()
