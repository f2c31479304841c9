"""Converts native requests to items, and the errors of pydantic to errors for the client."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from api.errors.validation_error import validation_error
from api.requests.vendor_requests import field_path
from shared.dialects.dialect import Untranslatable
from shared.dialects.dialects import DIALECTS
from shared.jobs.new_item import InexactNumber, NewItem, is_plain, native_item
from shared.models import AnyRequest, LLMRequest, PlainRequest
from shared.providers import Catalogue, Provider
from shared.providers.parameters import body_of
from shared.providers.routing import Fallback, RoutingError, named_fallbacks
from shared.providers.toml_section import MAX_FALLBACK_ROUTES, too_many_fallbacks

MAX_ERRORS = 100  # limit of errors that are listed one by one
Parsed = TypeVar("Parsed")
_ANY_REQUEST = TypeAdapter[PlainRequest | LLMRequest](AnyRequest)


@dataclass(frozen=True, slots=True)
class NativeRequests:
    """Parses native requests, and converts them to items.

    `line` and `item` raise RequestValidationError. `location` is the path to the request in the
    body.
    """

    catalogue: Catalogue

    def parse(self, text: bytes | bytearray) -> PlainRequest | LLMRequest:
        """Parses one request. Raises pydantic's ValidationError."""
        context = {"catalogue": self.catalogue}
        try:
            return _ANY_REQUEST.validate_json(text, context=context)
        except ValidationError:
            return LLMRequest.model_validate_json(text, context=context)  # explains the error

    def line(self, number: int, text: bytes) -> NewItem:
        location = ("body", "line", number)
        return self.item(valid(lambda: self.parse(text), *location), *location)

    def item(self, request: PlainRequest | LLMRequest, *location: str | int) -> NewItem:
        fallbacks = []
        if isinstance(request, LLMRequest) and request.models:
            fallbacks = self._fallbacks(request, *location)
        try:
            item = native_item(request, self.catalogue, fallbacks)
        except InexactNumber as error:
            raise validation_error(str(error), *location, *error.path) from None
        self._check_translation(self.catalogue.rows[request.provider], request, item, *location)
        if fallbacks:
            for row in {row.name: row for step in fallbacks for row in step.providers}.values():
                self._check_translation(row, request, item, *location)
        return item

    def _fallbacks(self, request: LLMRequest, *location: str | int) -> list[Fallback]:
        found: dict[tuple[str, str], Fallback] = {}
        for number, name in enumerate(request.models or ()):
            try:
                steps = named_fallbacks(self.catalogue, name)
            except RoutingError as error:
                raise validation_error(str(error), *location, "models", number) from None
            found |= {(step.lane, step.model.lower()): step for step in steps}
        found.pop((request.provider, request.model.lower()), None)
        if len(found) > MAX_FALLBACK_ROUTES:
            raise validation_error(too_many_fallbacks(len(found)), *location, "models")
        return list(found.values())

    def _check_translation(
        self, row: Provider, request: PlainRequest | LLMRequest, item: NewItem, *location: str | int
    ) -> None:
        codec = DIALECTS[row.dialect].native
        if codec.translate and not (codec.takes_plain and is_plain(request)):
            try:
                body_of(row, codec, item.request["model"], item.request["chat"])
            except Untranslatable as error:
                raise validation_error(
                    f"{row.name} cannot take this: {error.reason}", *location, *field_path(error)
                ) from None


def valid(parse: Callable[[], Parsed], *location: str | int) -> Parsed:
    """Returns the result of `parse`, whose ValidationError becomes a RequestValidationError."""
    try:
        return parse()
    except ValidationError as error:
        raise request_error(error, *location) from None


def request_error(error: ValidationError, *location: str | int) -> RequestValidationError:
    """Returns the error for the client. The fields with errors are below `location`.

    If there are more than `MAX_ERRORS` errors, names only their number.
    """
    if error.error_count() > MAX_ERRORS:
        return validation_error(
            f"the request has {error.error_count()} errors, which are too many to list", *location
        )
    # The input is left out, because it may be large, secret or invalid text.
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return RequestValidationError(
        [{**detail, "loc": (*location, *detail["loc"])} for detail in details]
    )
