"""Defines what a worker passes to a task (an attempt) and what a task returns (an outcome).

A task is the coroutine function that an item names. Each run of a task makes one attempt. If a task
raises an exception, that is a bug, and the item fails with `internal_error`.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from shared.providers.provider_row import provider_of
from shared.queue.ids import ItemId, LeaseId
from shared.queue.item_results import Result
from shared.queue.leases import CallUsage, Fault


@dataclass(frozen=True, slots=True)
class Attempt:
    """Tells a task which attempt at which item it makes."""

    item_id: ItemId
    lease_id: LeaseId
    lane: str
    number: int  # number of the attempt, from 1, without the attempts that are not counted
    calls: int  # number of calls for the item, with this call and with uncounted attempts
    queued_ms: float  # time from the acceptance of the job to the start of this attempt
    retried_ms: float  # part of `queued_ms` after the start of the first attempt
    remaining_s: float  # seconds until the job's deadline; `math.inf` without a deadline
    timeout_factor: int = 1  # factor of the call's time-out
    account: str = ""  # the account whose key is used: see shared.providers.provider_row.account
    tried: bytes = b""  # what the item tried before it moved, as JSON; b"" if it has not moved
    owner: str = ""
    model: str = ""  # the model that the account gets; "" for the model that the request names

    @property
    def served_provider(self) -> str | None:
        """Returns the provider that the queue chose, or None if the request names it."""
        return provider_of(self.account) if self.model else None

    @property
    def served_model(self) -> str | None:
        """Returns the model that the queue chose, or None if the request names it."""
        return self.model or None

    @property
    def route(self) -> list[dict[str, Any]] | None:
        """Returns what was tried before the item moved to this model; None if it has not moved."""
        return orjson.loads(self.tried) if self.model and self.tried else None


@dataclass(frozen=True, slots=True)
class Finished:
    """The item finishes with `result`, an answer or an error.

    With an error, the item moves to its next fallback instead, if it has one and the fault allows
    the move.
    """

    result: Result
    fault: Fault | None = None  # how the call failed, if it did
    usage: CallUsage | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed. The item is queued again after `delay_s` seconds.

    Because of `fault`, the queue may decide otherwise: the attempt is not counted and the item
    waits until the provider works again, or the item moves to a fallback, or the item finishes with
    `result` because it has waited for too long.
    """

    delay_s: float
    result: Result | None = None
    fault: Fault | None = None
    usage: CallUsage | None = None


@dataclass(frozen=True, slots=True)
class NoRetriesLeft:
    """The attempt failed, and no retry is left. The item finishes with `result`.

    As after a Retry, the item moves to a fallback instead if the fault allows it. If the attempt is
    not counted because the provider is at fault, the item is queued again.
    """

    result: Result
    fault: Fault
    usage: CallUsage | None = None


TaskOutcome = Finished | Retry | NoRetriesLeft
