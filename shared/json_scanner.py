"""Reads a JSON text without parsing it: counts its fields and elements, and finds its requests.

Parsing a large text in one step would keep the process from answering other requests. A thread
would not help, because the parser holds the interpreter's lock. So the text is scanned in slices,
and what is found in it is parsed piece by piece.
"""

import asyncio
import re
from dataclasses import dataclass, field

import orjson

MAX_PARTS = 100_000  # parsing takes up to 600 bytes and 5 µs a part: errors name the field
_MAX_JSON_TOKENS = 5 * MAX_PARTS  # valid text has at most 2 strings, 2 brackets and 1 comma a part
SLICE_BYTES = 128 * 1024  # bytes that are read before other requests run
_ROOT, _MEMBERS, _REQUESTS = (
    0,
    1,
    2,
)  # depth outside of a batch, in a batch, in its list of requests
_BRACKETS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_QUOTE, _COMMA, _LIST = ord('"'), ord(","), ord("[")
_OUTSIDE = re.compile(rb'[^"{}\[\],]*+')
# Matches up to the quote, the end of the slice, or a backslash that is the slice's last byte.
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_NAME = re.compile(rb'[{,]\s*("[^"\\]*+(?:\\.[^"\\]*+)*+")\s*:\s*', re.DOTALL)

Text = bytes | bytearray


class TooManyParts(ValueError):
    """The text has more than `MAX_PARTS` fields and elements."""


@dataclass(slots=True)
class Scanner:
    """Reads a text token by token. The text may be invalid, because its parts are parsed later.

    depth: number of open brackets.
    parts: number of fields and elements so far.
    requests: start and end of each element of the member `requests`; None without such a list. If
        there are several lists, the last list is used, as by a parser.
    """

    text: Text
    depth: int = _ROOT
    parts: int = 0
    requests: list[tuple[int, int]] | None = None
    _tokens: int = 0
    _in_string: bool = False
    _member: int = 0  # where the current member of the batch begins: its comma or bracket
    _element: int | None = None  # where the current request begins
    # Start, end and number of elements of each list `requests`
    _lists: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def is_invalid(self) -> bool:
        return self._tokens > _MAX_JSON_TOKENS

    def read(self, position: int, end: int) -> int:
        """Reads the text from `position`. Returns the position at which to read on.

        This is `end`, or less if a string's last escape needs the bytes after `end`.
        """
        text = self.text
        while position < end:
            if self._in_string:
                position = _end(_STRING, text, position, end)
                if position == end or text[position] != _QUOTE:
                    return position
                self._in_string = False
                position += 1
                continue
            position = _end(_OUTSIDE, text, position, end)
            if position < end:
                self._token(text[position], position)
                position += 1
        return position

    def finish(self) -> None:
        if self._element is not None:  # the list has no end
            self._end_list(len(self.text))

    def skeleton(self) -> bytes:
        """Returns the text with `null` in place of each element of the lists `requests`."""
        kept, position = list[Text](), 0
        for start, end, count in self._lists:
            kept += [self.text[position:start], b",".join([b"null"] * count)]
            position = end
        return b"".join([*kept, self.text[position:]])

    def _token(self, token: int, position: int) -> None:
        self._tokens += 1
        if token == _QUOTE:
            self._in_string = True
            return
        if token == _COMMA or _BRACKETS[token] > 0:
            self.parts += 1
        if self.depth == _REQUESTS and self._element is not None:
            if token == _COMMA:
                self._end_element(position)
            elif _BRACKETS[token] < 0:
                self._end_list(position)
        elif self.depth == _MEMBERS and token == _LIST and self._is_requests(position):
            self._element, self.requests = position + 1, []
        elif self.depth <= _MEMBERS:
            self._member = position
        if token != _COMMA:
            self.depth += _BRACKETS[token]

    def _is_requests(self, position: int) -> bool:
        name = _NAME.fullmatch(self.text, self._member, position)
        try:
            return name is not None and bool(orjson.loads(name[1]) == "requests")
        except orjson.JSONDecodeError:
            return False

    def _end_element(self, position: int) -> None:
        if self.requests is not None and self._element is not None:
            self.requests.append((self._element, position))
            self._element = position + 1

    def _end_list(self, position: int) -> None:
        if self.requests is not None and self._element is not None:
            start = self.requests[0][0] if self.requests else self._element
            if self.requests or self.text[self._element : position].strip():
                self._end_element(position)
            self._lists.append((start, position, len(self.requests)))
        self._element = None


async def scan(text: Text) -> Scanner:
    """Reads the text in slices. Raises TooManyParts.

    Stops early if the text has so many tokens that it is invalid.
    """
    scanner, position = Scanner(text), 0
    for start in range(0, len(text), SLICE_BYTES):
        if start:
            await asyncio.sleep(0)
        position = scanner.read(position, min(start + SLICE_BYTES, len(text)))
        if scanner.parts > MAX_PARTS:
            raise TooManyParts
        if scanner.is_invalid:
            break
    scanner.finish()
    return scanner


async def check_parts(text: Text) -> None:
    """Raises TooManyParts if the text has more than `MAX_PARTS` fields and elements."""
    if len(text) > MAX_PARTS and _at_most(text) > MAX_PARTS:
        await scan(text)


def _at_most(text: Text) -> int:
    """Returns an upper limit of the number of parts. To be fast, counts marks in strings, too."""
    return sum(text.count(mark) for mark in (b",", b"{", b"["))


def _end(pattern: re.Pattern[bytes], text: Text, position: int, end: int) -> int:
    match = pattern.match(text, position, end)
    return match.end() if match else position
