"""Parses the body of a native batch: a small body in one step, a large body request by request."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from api.errors.validation_error import validation_error
from api.requests.native_requests import MAX_ERRORS, NativeRequests, request_error
from shared.event_loop_yield import pause_after
from shared.jobs.new_item import NewItem
from shared.json_scanner import Scanner, Text
from shared.models import (
    MAX_BATCH_REQUESTS,
    AnyBatch,
    BatchLLMRequest,
    BatchOutline,
    JobOptions,
    UniqueRequestIds,
)

Items = AsyncIterator[NewItem]


def small_batch(text: Text, native: NativeRequests) -> tuple[Items, JobOptions]:
    """Returns the items and the options of a batch that is parsed in one step.

    Raises pydantic's ValidationError. The iteration raises RequestValidationError.
    """
    context = {"catalogue": native.catalogue}
    batch: AnyBatch | BatchLLMRequest
    try:
        batch = AnyBatch.model_validate_json(text, context=context)
    except ValidationError:
        batch = BatchLLMRequest.model_validate_json(text, context=context)  # explains the error
    return _small_items(batch.requests, native), batch


async def _small_items(requests: list[Any], native: NativeRequests) -> Items:
    """Yields the items. Removes the requests from the batch, which lives while its client waits."""
    requests.reverse()
    for index in range(len(requests)):
        yield native.item(requests.pop(), "body", "requests", index)


async def large_batch(scanned: Scanner, native: NativeRequests) -> tuple[Items, JobOptions]:
    """Returns the items and the options of a batch that is parsed request by request.

    Both this function and the iteration raise RequestValidationError.
    """
    skeleton, batch = scanned.skeleton(), _LargeBatch(scanned.text, scanned.requests or [], native)
    model: type[JobOptions] = BatchLLMRequest if scanned.requests is None else BatchOutline
    try:
        options = model.model_validate_json(skeleton)
    except ValidationError as error:
        raise await batch.errors(request_error(error, "body").errors()) from None
    return batch.items(), options


@dataclass(slots=True)
class _LargeBatch:
    text: Text
    places: list[tuple[int, int]]
    native: NativeRequests
    ids: UniqueRequestIds = field(default_factory=UniqueRequestIds)

    async def items(self) -> Items:
        for index, (start, end) in enumerate(self.places):
            try:
                request = self.native.parse(self.text[start:end])
                self.ids.add(request)
            except ValidationError:
                raise await self.errors((), index) from None
            except PydanticCustomError as error:
                detail = {"type": error.type, "loc": ("body",), "msg": error.message()}
                raise RequestValidationError([detail]) from None
            await pause_after(end - start)
            yield self.native.item(request, "body", "requests", index)
            del request
        self.text = b""

    async def errors(self, earlier: Sequence[Any], first: int = 0) -> RequestValidationError:
        """Returns the `earlier` errors, and the errors of all requests from `first` on.

        At most MAX_BATCH_REQUESTS requests are checked. Returns a single error instead if there are
        more than MAX_ERRORS.
        """
        found = [*earlier]
        for index in range(first, min(len(self.places), MAX_BATCH_REQUESTS)):
            start, end = self.places[index]
            try:
                self.native.parse(self.text[start:end])
            except ValidationError as error:
                found += request_error(error, "body", "requests", index).errors()
            if len(found) > MAX_ERRORS:
                message = f"the request has more than {MAX_ERRORS} errors, too many to list"
                return validation_error(message, "body")
            await pause_after(end - start)
        return RequestValidationError(found)
