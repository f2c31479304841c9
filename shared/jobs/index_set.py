"""Keeps a set of a job's items with one bit per item, because a job can have a million items."""

from collections.abc import Iterable

_BLOCK = 256  # bytes that are searched at a time


class IndexSet:
    """Keeps indexes between 0 and `total` - 1."""

    __slots__ = ("_bits", "_total")

    def __init__(self, total: int) -> None:
        self._total = total
        self._bits = bytearray((total + 7) // 8)

    def __len__(self) -> int:
        return int.from_bytes(self._bits, "little").bit_count()

    def add(self, indexes: Iterable[int]) -> None:
        for index in indexes:
            self._bits[index >> 3] |= 1 << (index & 7)

    def invert(self) -> None:
        """Removes the indexes that are in the set, and adds all the others."""
        every = (1 << self._total) - 1
        rest = every ^ int.from_bytes(self._bits, "little")
        self._bits[:] = rest.to_bytes(len(self._bits), "little")

    def page(self, first: int, limit: int) -> list[int]:
        """Returns up to `limit` indexes in ascending order, after the first `first` indexes."""
        found: list[int] = []
        for start in range(0, len(self._bits), _BLOCK):
            block = int.from_bytes(self._bits[start : start + _BLOCK], "little")
            count = block.bit_count()
            if first >= count:
                first -= count
                continue
            while block and len(found) < limit:
                lowest = block & -block
                block ^= lowest
                if first:
                    first -= 1
                else:
                    found.append(start * 8 + lowest.bit_length() - 1)
            if len(found) == limit:
                break
        return found
