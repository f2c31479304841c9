"""Defines leases, and the settlements that end them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import orjson

from shared.event_loop_yield import LARGE_BYTES
from shared.queue.ids import ItemId, LeaseId
from shared.queue.verdict import Verdict

MAX_WORKER_LOSSES = 3  # an item that lost this many workers in one attempt fails
SettlementOutcome = Literal["complete", "fail", "retry", "release"]  # see Settlement


@dataclass(frozen=True, slots=True)
class Lease:
    """Gives a claimed item the right to run until the lease expires.

    Each lease uses one slot of the lane's limit.
    """

    item_id: ItemId
    lease_id: LeaseId
    lane: str
    payload: bytes
    attempts: int  # number of counted failed attempts before this attempt
    worker_losses: int  # number of workers lost during this attempt
    queued_ms: float  # time from the acceptance of the job to this claim
    # number of other failed attempts: because of faults of the provider, or before the item moved
    uncounted: int = 0
    retried_ms: float = 0  # the part of queued_ms after the first claim
    remaining_ms: float | None = None  # time until the job's deadline; None without a deadline
    account: str = ""  # the key to use: see shared.providers.provider_row.account
    model: str = ""  # the model that the account gets; "" for the model that the item names
    tried: bytes = b""  # what was tried before, as JSON; b"" if the item has not moved
    owner: str = ""
    timeout_factor: int = 1  # factor of the call's time-out; above 1 for a probe after time-outs

    @property
    def job_id(self) -> str:
        return self.item_id.job_id

    @property
    def quarantined(self) -> bool:
        return self.worker_losses >= MAX_WORKER_LOSSES - 1


@dataclass(frozen=True, slots=True)
class Fault:
    """Says how a call to a provider failed. lua/lib/pauses.lua decides what other items do.

    reason: every owner can read the reason, so it never contains text from a provider.
    code, status_code: the error code and the HTTP status of items that are not sent because of the
        fault.
    wait_s: time after which the provider takes calls again; None if the provider names no time.
    covers_account: whether the provider says that it refuses the account and not only one model.
    ignored: whether the failure says nothing about the provider's health.
    """

    verdict: Verdict
    reason: str
    code: str
    status_code: int | None = None
    wait_s: float | None = None
    covers_account: bool = False
    ignored: bool = False

    def to_json(self) -> bytes:
        fields = {
            "verdict": self.verdict,
            "reason": self.reason,
            "code": self.code,
            "status": self.status_code,
            "wait_ms": None if self.wait_s is None else self.wait_s * 1000,
            "covers_account": self.covers_account or None,
            "ignored": self.ignored or None,
        }
        return orjson.dumps({name: value for name, value in fields.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Announced:
    """Holds a rate limit that a provider has announced, and what is left of the limit.

    left: None if the provider does not say what is left.
    """

    limit: float
    left: float | None = None


@dataclass(frozen=True, slots=True)
class CallUsage:
    """Holds the tokens that a provider counts for a call, and the limits that it has announced.

    prompt_tokens: None if the provider has counted none, or if no limiter needs the tokens.
    output_tokens: the tokens of the answer, or the request's limit if `Rules.reserves_output`.
    announced: the limits by `rpm`, `tpm` and `rpd`; empty if none was announced.
    """

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    announced: Mapping[str, Announced] = field(default_factory=dict)

    def to_json(self) -> bytes:
        fields: dict[str, object] = {}
        if self.prompt_tokens is not None:
            fields |= {"prompt_tokens": self.prompt_tokens, "output_tokens": self.output_tokens}
        if self.announced:
            fields["announced"] = {
                rate: {"limit": limit.limit} | ({} if limit.left is None else {"left": limit.left})
                for rate, limit in self.announced.items()
            }
        return orjson.dumps(fields)


@dataclass(frozen=True, slots=True)
class Settlement:
    """Settles a lease with the outcome of its call.

    complete, fail   the item finishes with `result`; the provider call took `latency_ms`. An item
                     that fails moves on to its next fallback, if it has one and `fault` allows it:
                     see lua/lib/fallbacks.lua.
    retry            the attempt failed; the item runs again after `delay_s`. If `delay_s` is None,
                     the item moves on to its next fallback, or finishes with `result`. An attempt
                     that failed because of a fault of the provider is not counted: the item waits
                     until the provider is healthy, for a limited time.
    release          the item was not run, or its call was stopped; the item is queued again, and no
                     attempt is counted. An item whose answer was streamed in part fails.
    """

    lease: Lease
    outcome: SettlementOutcome
    result: bytes = b""
    latency_ms: float = 0
    delay_s: float | None = 0
    fault: Fault | None = None
    usage: CallUsage | None = None

    @property
    def memory_bytes(self) -> int:
        """Returns the memory that the result takes until it is stored; 0 for a small result."""
        size = len(self.result)
        return 2 * size if size > LARGE_BYTES else 0  # the result, and the command that stores it

    def argv(self) -> tuple[str | bytes | float, ...]:
        return (
            self.lease.lane,
            self.lease.lease_id,
            self.outcome,
            self.result,
            round(self.latency_ms * 1000),
            "" if self.delay_s is None else self.delay_s * 1000,
            self.fault.to_json() if self.fault else "",
            self.usage.to_json() if self.usage else "",
        )
