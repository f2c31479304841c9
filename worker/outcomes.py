"""The attempt that a worker passes to a task, and the outcome that the task returns.

A task is the coroutine function that an item names. It runs one attempt at the item. An exception
from it is a fault of the program: the item fails with `internal_error`.
"""

from dataclasses import dataclass

from shared.queue.claims import Pause
from shared.queue.ids import ItemId
from shared.queue.item_results import Result


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one item."""

    item_id: ItemId
    number: int  # from 1
    queued_ms: float  # from acceptance to the start of this attempt
    retried_ms: float  # the part of `queued_ms` since the first attempt began
    remaining_s: float  # until the job's deadline; `math.inf` without one


@dataclass(frozen=True, slots=True)
class Finished:
    """The item has its result, an answer or an error, and never changes again."""

    result: Result
    pause: Pause | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed. The item returns to its queue after the delay."""

    delay_s: float
    pause: Pause | None = None


TaskOutcome = Finished | Retry
