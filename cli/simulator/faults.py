"""Defines the faults that a call can get, and reads them from a model's name."""

import dataclasses
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Literal

from cli.simulator.outages import Outage

CallOutcome = int | Literal["hang", "drop", "aborted"]  # an int is the status of the response


class SimulatedFault(StrEnum):
    STATUS = "status"
    ERROR_OBJECT = "error-object"
    HANG = "hang"
    DROP = "drop"
    HALF = "half"
    GARBAGE = "garbage"
    HTML = "html"
    HUGE = "huge"
    DRIP = "drip"
    EMPTY_CHOICES = "empty-choices"
    NULL_CONTENT = "null-content"
    NO_USAGE = "no-usage"


@dataclass(frozen=True, slots=True)
class Plan:
    """Describes what happens to one call: after the latency, it is answered or gets a fault.

    `fault` is None for an answer. If `first` is set, only the first `first` calls of an item get
    the fault. `latency_ms` is None if the behaviour sets the latency. An `outage` replaces the
    fault.
    """

    fault: SimulatedFault | None = None
    status: int = 200
    first: int | None = None
    latency_ms: float | None = None
    outage: Outage | None = None


_DIRECTIVE = re.compile(
    r"(?<![a-z0-9])(?:"
    r"error-object-(?P<code>\d{3})|latency-(?P<latency_ms>\d{1,7})|"
    r"(?:status-)?(?P<status>[345]\d\d)(?:x(?P<first>\d{1,6}))?|"
    r"(?P<plain>hang|drop|half|garbage|html|huge|drip|empty-choices|null-content|no-usage)"
    r")(?![a-z0-9])"
)


@lru_cache(maxsize=1024)
def parse_model(model: str) -> Plan | None:
    """Returns the plan in a model's name such as `x/sim-latency-250-429x2`.

    Returns None if the name contains no plan.
    """
    plan: Plan | None = None
    for found in _DIRECTIVE.finditer(model.partition("sim-")[2]):
        plan = plan or Plan()
        match found.groupdict():
            case {"status": str(status), "first": first}:
                times = int(first) if first else None
                plan = dataclasses.replace(
                    plan, fault=SimulatedFault.STATUS, status=int(status), first=times
                )
            case {"code": str(code)}:
                plan = dataclasses.replace(
                    plan, fault=SimulatedFault.ERROR_OBJECT, status=int(code)
                )
            case {"latency_ms": str(latency_ms)}:
                plan = dataclasses.replace(plan, latency_ms=float(latency_ms))
            case {"plain": str(plain)}:
                plan = dataclasses.replace(plan, fault=SimulatedFault(plain))
    return plan
