"""Defines the ids of jobs, items and leases, as Redis stores them."""

import re

DELIVERY_SUFFIX = ".webhook"  # <job id>.webhook is the job that delivers the webhook

_BATCH_PREFIX = "batch_"  # begins the id of a job in OpenAI's API

_CLAIMED_US = re.compile(r"@(\d+)")
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_job_id(text: str) -> bool:
    """Returns whether `text` can be the id of a client's job.

    A text from outside must be checked before it becomes a part of a key. A text with `:` could
    name a key of another kind, or a key of an installation with a longer prefix. The id of a job
    that delivers a webhook contains a dot, so that no client can name such a job.
    """
    return _JOB_ID.fullmatch(text) is not None


def batch_id(job_id: str) -> str:
    """Returns the id that a job has in OpenAI's API."""
    return f"{_BATCH_PREFIX}{job_id}"


def job_id_of(text: str) -> str:
    """Returns the id of a job that a user has named by its id or by its `batch_id`."""
    return text.removeprefix(_BATCH_PREFIX)


class ItemId(str):
    """Identifies an item: `<job id>:<index of the request in the job>`."""

    __slots__ = ()

    @property
    def job_id(self) -> str:
        return self.rpartition(":")[0]

    @property
    def request_index(self) -> int:
        return int(self.rpartition(":")[2])


class LeaseId(str):
    """Identifies a lease: see lua/lib/ids.lua.

    It contains the item, the time of the claim in µs, the deployment if the lane has several, and
    the limiters. The name of a limiter is a model's name, so it may contain any character.
    """

    __slots__ = ()

    @property
    def job_id(self) -> str:
        return self.partition(":")[0]

    @property
    def claimed_us(self) -> int:
        return int(_CLAIMED_US.search(self)[1])  # type: ignore[index]

    @property
    def is_limited(self) -> bool:
        """Returns whether a limiter has charged the lease, so that Redis needs the call's usage."""
        return "~" in self
