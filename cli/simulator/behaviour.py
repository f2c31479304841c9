"""Defines the behaviour of the simulated provider, and draws a random plan for each call."""

import math
import random
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from cli.simulator.budgets import Budget
from cli.simulator.dialects import DialectName
from cli.simulator.faults import Plan, SimulatedFault
from cli.simulator.outages import Outage
from cli.simulator.request_windows import Window
from cli.simulator.tokens import Tokenizer

_P95_SIGMAS = 1.6448536  # 95th percentile of the standard normal distribution

Probability = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Behaviour:
    """Describes how the simulated provider behaves.

    Latencies are fixed, uniform (`latency_ms` ± `latency_spread_ms`) or lognormal (with
    `latency_p95_ms`). Each `rate_…` is the share of calls that get the fault with this name.
    If `retry_after` is set, errors with status 429 and 503 have it as Retry-After, except an outage
    with a `body` of its own.

    chunk_ms: time between the events of a streamed answer.
    limit: number of calls in flight; any further call gets `limit_status` after `limit_delay_ms`,
        and does not count as in flight.
    slots: number of calls that are worked on at a time; further calls wait for a slot.
    load_s: seconds that the first call to a model takes to load the model; further calls to this
        model wait until it is loaded.
    poison: a call whose last message contains this text gets 500, except during an outage.
    tokenizer: `words` counts words as tokens; `scripts` counts about as many tokens as providers.
    by_dialect: an entry replaces this behaviour for one dialect.
    by_model: an entry replaces this behaviour for one model. A dialect with an entry in
        `by_dialect` uses only the `by_model` of that entry. The `limit` and `slots` of an entry
        count only the calls for its dialect or model.
    ledger: whether the simulator keeps a line for each call, and the call itself.
    """

    latency_ms: Milliseconds = 0
    latency_spread_ms: Milliseconds = 0
    latency_p95_ms: Milliseconds | None = None
    chunk_ms: Milliseconds = 0
    rate_429: Probability = 0
    rate_500: Probability = 0
    rate_503: Probability = 0
    rate_hang: Probability = 0
    rate_drop: Probability = 0
    rate_half: Probability = 0
    rate_garbage: Probability = 0
    rate_html: Probability = 0
    rate_huge: Probability = 0
    rate_drip: Probability = 0
    rate_error_object: Probability = 0
    retry_after: Annotated[str, Field(pattern=r"^[\x20-\x7e]+$")] | None = None
    limit: Annotated[int, Field(ge=0)] | None = None
    limit_status: Literal[429, 503] = 429
    limit_delay_ms: Milliseconds = 0
    slots: Annotated[int, Field(gt=0)] | None = None
    load_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    poison: Annotated[str, Field(min_length=1)] | None = None
    outage: Outage | None = None
    budget: Budget | None = None
    window: Window | None = None
    tokenizer: Tokenizer = "words"
    expect_key: str | None = None
    seed: int = 0
    ledger: bool = True
    by_dialect: dict[DialectName, "Behaviour"] = Field(default_factory=dict)
    by_model: dict[str, "Behaviour"] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.latency_p95_ms is not None and (
            self.latency_spread_ms or not 0 < self.latency_ms < self.latency_p95_ms
        ):
            raise ValueError(
                "latency_p95_ms must be greater than latency_ms, which must be greater than 0;"
                " with latency_p95_ms, latency_spread_ms must be 0"
            )
        if sum(share for share, _ in fault_shares(self)) > 1 + 1e-9:
            raise ValueError("the sum of the rate_… fields must not be more than 1")
        if any(own.by_dialect for own in self.by_dialect.values()):
            raise ValueError("by_dialect must not contain another by_dialect")
        if any(own.by_dialect or own.by_model for own in self.by_model.values()):
            raise ValueError("by_model must not contain by_dialect or another by_model")
        return self


def fault_shares(behaviour: Behaviour) -> list[tuple[float, Plan]]:
    """Returns, for each fault whose rate is not 0, its share of all calls and its plan."""
    plans = {str(code): Plan(SimulatedFault.STATUS, code) for code in (429, 500, 503)}
    plans |= {fault: Plan(fault) for fault in SimulatedFault}
    shares = [(getattr(behaviour, f"rate_{name}", 0.0), plan) for name, plan in plans.items()]
    half = behaviour.rate_error_object / 2
    shares += [(half, Plan(SimulatedFault.ERROR_OBJECT, code)) for code in (429, 502)]
    return [(share, plan) for share, plan in shares if share]


def draw_plan(shares: list[tuple[float, Plan]], rng: random.Random) -> Plan:
    roll = rng.random()
    for share, plan in shares:
        if roll < share:
            return plan
        roll -= share
    return Plan()


def draw_latency_ms(behaviour: Behaviour, rng: random.Random) -> float:
    """Returns a random latency. `latency_ms` is the median of the distribution."""
    median, spread = behaviour.latency_ms, behaviour.latency_spread_ms
    if behaviour.latency_p95_ms is not None:
        sigma = math.log(behaviour.latency_p95_ms / median) / _P95_SIGMAS
        return rng.lognormvariate(math.log(median), sigma)
    return max(0.0, rng.uniform(median - spread, median + spread)) if spread else median


def load_behaviour(document: str | bytes) -> Behaviour:
    """Returns the behaviour in a JSON document. Raises a ValueError that names each wrong field."""
    try:
        return TypeAdapter(Behaviour).validate_json(document)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError("; ".join(faults)) from None
