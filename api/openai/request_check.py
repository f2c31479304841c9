"""Checks the lines of a batch's file, and converts them to items."""

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError

from api.errors.openai_errors import param_name
from api.requests.body import held_chunks
from api.requests.decompression import without_mark
from api.requests.formats import RequestFormat
from api.requests.lines import request_lines
from api.requests.unique_ids import UniqueIds
from api.requests.vendor_line import InvalidLine
from api.requests.vendor_requests import VendorOptions, VendorRequests
from shared.dialects.dialect import Operation
from shared.jobs.new_item import NewItem
from shared.jobs.staging import CHUNK_BYTES
from shared.providers import Catalogue
from shared.settings import Settings

MAX_MISTAKES = 100
_REQUIRED = ("custom_id", "method", "url", "body")


@dataclass(frozen=True, slots=True)
class Mistake:
    """Describes a mistake in a file of requests, as a batch lists it.

    line: the number of the line, from 1; None if the mistake is not in one line.
    param: the field; None if the mistake is not in one field.
    """

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class RequestCheck:
    """Checks the requests of one file.

    provider: the provider of all requests; None if their models name it.
    operation: the operation of all requests; None at the upload, when it is not known yet.
    mistakes: the first mistakes, at most MAX_MISTAKES.
    count: number of requests that were read, valid or not.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        *,
        provider: str | None,
        operation: Operation | None = None,
    ) -> None:
        self.mistakes: list[Mistake] = []
        self.count = 0
        self._settings = settings
        self._operation = operation
        options = VendorOptions(
            provider=provider, format=RequestFormat.OPENAI_BATCH, required=_REQUIRED
        )
        self._requests = VendorRequests(catalogue, settings.default_provider, options)
        self._unique = UniqueIds()
        self._models: set[str] = set()

    @property
    def model(self) -> str | None:
        """Returns `provider/model` if all valid requests have the same; otherwise None."""
        return next(iter(self._models)) if len(self._models) == 1 else None

    async def items(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[NewItem]:
        """Yields the items of the file until its first mistake, and finds further mistakes.

        Stops reading `chunks` after MAX_MISTAKES mistakes, after more than MAX_JOB_ITEMS requests,
        or if the rest cannot be split into lines.
        """
        try:
            max_bytes = self._settings.max_line_bytes
            async for number, line in request_lines(_without_mark(chunks), max_bytes):
                self.count += 1
                item = self._item(number, line)
                if item is not None and not self.mistakes:
                    yield item
                if len(self.mistakes) >= MAX_MISTAKES:
                    return
                if self.count > self._settings.max_job_items:
                    self._add_mistake("too_many_requests", self._too_many(), number)
                    return
        except RequestValidationError as error:
            [detail] = error.errors()
            self._add_mistake("invalid_json_line", detail["msg"], detail["loc"][2])
        if not self.count and not self.mistakes:
            self._add_mistake("empty_file", "the file has no requests", None)

    def _item(self, number: int, line: bytes) -> NewItem | None:
        try:
            item = self._requests.item(line, RequestFormat.OPENAI_BATCH)
            self._unique.check(number, item)
        except InvalidLine as error:
            self._add_mistake(error.code, str(error), number, param_name(error.path))
            return None
        if self._operation not in {None, item.request["operation"]}:
            message = f"the URL is not the endpoint of the batch, which is for {self._operation}"
            self._add_mistake("mismatched_url", message, number, "url")
            return None
        if len(self._models) < 2:  # noqa: PLR2004 — two are enough to know that they differ
            self._models.add(f"{item.request['provider']}/{item.request['model']}")
        return item

    def _too_many(self) -> str:
        return f"the file has more than {self._settings.max_job_items} requests (MAX_JOB_ITEMS)"

    def _add_mistake(
        self, code: str, message: str, line: int | None, param: str | None = None
    ) -> None:
        self.mistakes.append(Mistake(code, message, line, param))


def hold(
    request: Request, settings: Settings, chunks: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """Returns the chunks of a file.

    The iteration reserves memory for the longest line and one chunk, and raises MemoryFull.
    """
    return held_chunks(request, chunks, settings.max_line_bytes + CHUNK_BYTES)


async def _without_mark(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    start: bytes | None = b""  # becomes None when the file has begun
    async for chunk in chunks:
        if start is None:
            yield chunk
        else:
            rest, start = without_mark(start + chunk)
            yield rest
    if start:
        yield start
