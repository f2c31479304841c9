"""Limits the memory for the requests that a worker has claimed.

A worker tells Redis only how many items it takes, so their size has to be estimated.
"""

from collections.abc import Collection

from shared.queue.leases import Lease

MAX_PAYLOAD_BYTES = 128 * 1024 * 1024  # a worker that holds this much claims nothing
_FIRST_PAYLOAD_BYTES = MAX_PAYLOAD_BYTES // 16  # estimate before the first claim


class PayloadRoom:
    """Computes how many more items fit into MAX_PAYLOAD_BYTES beside the running items.

    The size of an item is known only after the claim. So every item is assumed to be as large as
    the largest item of the latest claim. After a claim of smaller items, the assumed size falls at
    most by half.
    """

    def __init__(self) -> None:
        self._size = _FIRST_PAYLOAD_BYTES

    def items(self, held_bytes: int) -> int:
        """Returns the number of items to claim: at least 1, or 0 if no byte is left.

        held_bytes: the size of the running items.
        """
        room = MAX_PAYLOAD_BYTES - held_bytes
        return max(1, room // self._size) if room > 0 else 0

    def learn(self, claimed: Collection[Lease]) -> None:
        if claimed:
            largest = max(len(lease.payload) for lease in claimed)
            self._size = max(largest, self._size // 2, 1)
