"""Limits the bytes of the requests that a worker holds, although it claims requests by number."""

from collections.abc import Collection

from shared.queue.leases import Lease

MAX_PAYLOAD_BYTES = 128 * 1024 * 1024  # a worker whose running items are larger claims none
_FIRST_PAYLOAD_BYTES = MAX_PAYLOAD_BYTES // 16  # assumed size before a worker has claimed any item


class PayloadRoom:
    """Says how many items fit into MAX_PAYLOAD_BYTES, in addition to the running items.

    The size of an item is known only when it is claimed. So each item is assumed to be as large as
    the largest of the latest items, and this size halves with each round of smaller items.
    """

    def __init__(self) -> None:
        self._size = _FIRST_PAYLOAD_BYTES

    def items(self, held_bytes: int) -> int:
        """Returns a number of items to claim: at least one while there is any room."""
        room = MAX_PAYLOAD_BYTES - held_bytes
        return max(1, room // self._size) if room > 0 else 0

    def learn(self, claimed: Collection[Lease]) -> None:
        if claimed:
            largest = max(len(lease.payload) for lease in claimed)
            self._size = max(largest, self._size // 2, 1)
