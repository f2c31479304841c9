"""Divides a limited number of places among owners, so that no owner can take all of them."""

from collections import Counter


class OwnerShares:
    """Gives an owner another place only while the owner has fewer places than are free.

    So an owner alone can have half of the places, and two owners a third each. An owner without a
    place gets one immediately while any place is free. The first owners leave places free, even if
    they keep their own places for hours; only many owners together can take all places. This is the
    dynamic threshold of Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory
    Packet Switches" (1998).

    unshared: an owner who may take every free place, because there is no other owner.
    """

    def __init__(self, limit: int, *, unshared: str | None = None) -> None:
        self._free = limit
        self._taken: Counter[str] = Counter()
        self._unshared = unshared

    @property
    def is_full(self) -> bool:
        return self._free <= 0

    def taken(self, owner: str) -> int:
        return self._taken[owner]

    def take(self, owner: str) -> bool:
        """Takes a place for the owner. Returns False if there is none for this owner."""
        taken = self._taken[owner]
        if self._free <= (0 if owner == self._unshared else taken):
            return False
        self._taken[owner] = taken + 1
        self._free -= 1
        return True

    def give_back(self, owner: str) -> None:
        self._free += 1
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]
