"""Reads server-sent events (WHATWG HTML, 9.2.6), from bytes that arrive in any pieces."""

import re
from codecs import BOM_UTF8
from dataclasses import dataclass

EVENT_STREAM = "text/event-stream"  # media type
_LINE_END = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)  # after a \r at the end, a \n may follow


@dataclass(frozen=True, slots=True)
class Event:
    """Holds an event: its name ("" if it has none) and its data."""

    name: str
    data: str

    def encode(self) -> bytes:
        name = f"event: {self.name}\n" if self.name else ""
        data = self.data.replace("\n", "\ndata: ")
        return f"{name}data: {data}\n\n".encode()


class EventParser:
    """Splits a stream into events. Comments, ids and retry times are left out."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._is_start = True
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Returns the events that end in the chunk."""
        self._rest += chunk
        if b"\n" not in chunk and b"\r" not in chunk:
            return []  # a long line is not searched again for each chunk
        *lines, rest = _LINE_END.split(bytes(self._rest))
        self._rest[:] = rest
        return [event for line in lines if (event := self._line(line))]

    def end(self) -> list[Event]:
        """Returns the last event if the blank line after it is missing, else an empty list."""
        return self.feed(b"\n\n")

    def _line(self, line: bytes) -> Event | None:
        if self._is_start:
            line, self._is_start = line.removeprefix(BOM_UTF8), False
        if not line:
            event = Event(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        name, _, value = line.decode(errors="replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        return None
