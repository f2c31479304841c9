"""Keeps the last calls as they were received, for tests that compare what was sent."""

from collections import deque
from dataclasses import dataclass

_MAX_CALLS = 1_000
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: dict[str, str]  # the names are in lower case
    body: bytes


class ReceivedCalls:
    """Keeps the last calls: at most 1,000, with at most 64 MiB of bodies."""

    def __init__(self) -> None:
        self._calls: deque[Received] = deque()
        self._bytes = 0

    def add(self, call: Received) -> None:
        self._calls.append(call)
        self._bytes += len(call.body)
        while len(self._calls) > _MAX_CALLS or self._bytes > _MAX_BYTES:
            self._bytes -= len(self._calls.popleft().body)

    def all(self) -> list[Received]:
        return list(self._calls)

    def clear(self) -> None:
        self._calls.clear()
        self._bytes = 0
