"""The ids of items and leases, as they stand in Redis."""

DELIVERY_SUFFIX = ".webhook"  # of a job's id: the job that delivers its webhook


class ItemId(str):
    """`<job id>:<index of the request in the job>`."""

    __slots__ = ()

    @property
    def job_id(self) -> str:
        return self.rpartition(":")[0]

    @property
    def request_index(self) -> int:
        return int(self.rpartition(":")[2])


class LeaseId(str):
    """`<item id>@<claim>`; the claim is the time of the script that claimed the item, in µs."""

    __slots__ = ()

    @property
    def claimed_us(self) -> int:
        return int(self.rpartition("@")[2])
