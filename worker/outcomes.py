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
    account: str = ""  # the key to use: see shared.providers.provider_row.account
    tried: bytes = b""  # what was tried before, as JSON; b"" if the item has not moved
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
        """Returns what was tried before the item moved to this model, or None if nothing."""
        return orjson.loads(self.tried) if self.model and self.tried else None


@dataclass(frozen=True, slots=True)
class Finished:
    """The item has finished: its result is an answer or an error, and does not change any more."""

    result: Result
    fault: Fault | None = None  # how the call failed, if it did
    usage: CallUsage | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed. The item is queued again after `delay_s` seconds.

    With a fault of the provider, the attempt may not count, and the item may have to finish with
    `result` because it has waited for the provider for too long.
    """

    delay_s: float
    result: Result | None = None
    fault: Fault | None = None
    usage: CallUsage | None = None


@dataclass(frozen=True, slots=True)
class NoRetriesLeft:
    """The attempt failed, and was the last one if it counts. Then the item finishes with `result`.

    The attempt does not count if the fault is the provider's: the item is queued again, as after a
    Retry.
    """

    result: Result
    fault: Fault
    usage: CallUsage | None = None


TaskOutcome = Finished | Retry | NoRetriesLeft
