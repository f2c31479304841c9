"""Reads an upload as multipart/form-data (RFC 7578), with its parts in any order.

OpenAI's client for JavaScript sends the file before the other fields, its client for Python after.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.errors.openai_errors import OpenAIError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FILE = "file"  # name of the part with the file
MAX_FORM_PARTS = 20
MAX_FIELD_BYTES = 16 * 1024
MAX_FILENAME = 255  # characters
DEFAULT_FILENAME = "upload"


@dataclass(slots=True)
class _Part:
    name: str
    filename: str | None
    data: bytearray = field(default_factory=bytearray)


class UploadForm:
    """Reads a form with a file, whose content is never in memory as a whole.

    Read all of `file_chunks` first: then `fields` and `filename` are complete. The constructor
    raises OpenAIError 400 or 415.
    """

    def __init__(self, content_type: str, chunks: AsyncIterator[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise OpenAIError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "Content-Type must be multipart/form-data with a boundary",
            )
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._chunks = chunks
        self._pieces: list[bytes] = []  # pieces of the file in the last chunk
        self._part: _Part | None = None
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""
        self._ended = False
        try:
            self._parser = MultipartParser(boundary, self._callbacks())
        except FormParserError as error:
            raise _malformed(str(error)) from None

    async def file_chunks(self) -> AsyncIterator[bytes]:
        """Yields the content of the file, and reads the whole form. Raises OpenAIError 400."""
        async for chunk in self._chunks:
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise _malformed(str(error)) from None
            for piece in self._pieces:
                yield piece
            self._pieces.clear()
        if not self._ended:
            raise _malformed("its last boundary is missing")
        if self.filename is None:
            raise OpenAIError(HTTPStatus.BAD_REQUEST, "the form has no file", param=FILE)

    def _callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_FORM_PARTS:
            raise _malformed(f"it has more than {MAX_FORM_PARTS} parts")
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode(errors="replace")
        filename = options.get(b"filename")
        self._part = _Part(name, filename.decode(errors="replace") if filename else None)
        if name == FILE:
            if self.filename is not None:
                raise OpenAIError(HTTPStatus.BAD_REQUEST, "send one file at a time", param=FILE)
            self.filename = (self._part.filename or DEFAULT_FILENAME)[:MAX_FILENAME]

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part is None:
            return
        if part.name == FILE:
            self._pieces.append(data[start:end])
            return
        part.data += data[start:end]
        if len(part.data) > MAX_FIELD_BYTES:
            raise OpenAIError(
                HTTPStatus.BAD_REQUEST,
                f"the field must have at most {MAX_FIELD_BYTES} bytes",
                param=part.name,
            )

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is not None and part.name != FILE:
            self.fields[part.name] = part.data.decode(errors="replace")

    def _end(self) -> None:
        self._ended = True


def _malformed(reason: str) -> OpenAIError:
    return OpenAIError(HTTPStatus.BAD_REQUEST, f"the form is not valid multipart: {reason}")
