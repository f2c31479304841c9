"""Defines the ids of items and leases, as Redis stores them."""

DELIVERY_SUFFIX = ".webhook"  # <job id>.webhook is the job that delivers the webhook


class ItemId(str):
    """An item's id: `<job id>:<index of the request in the job>`."""

    __slots__ = ()

    @property
    def job_id(self) -> str:
        return self.rpartition(":")[0]

    @property
    def request_index(self) -> int:
        return int(self.rpartition(":")[2])


class LeaseId(str):
    """A lease's id: `<item id>@<claimed_us>`, with the time of the claim in µs."""

    __slots__ = ()

    @property
    def claimed_us(self) -> int:
        return int(self.rpartition("@")[2])
