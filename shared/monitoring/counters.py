"""The counters of the history, as values in Python and as fields of a hash in Redis.

Each hash (`Keys.history`) covers `STEP_S` seconds and all lanes:

    "<lane> calls <error code or -> <model>"                       Calls
    "<lane> duration <histogram bucket>"                           Durations
    "<lane> latency_ms", "… prompt_tokens", "… completion_tokens"  Total
    "<lane> in_flight", "… queued"                                 Level

Workers add to the first three. store_report.lua sets the levels, once a step.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

STEP_S = 10
KEPT_S = 3600

_NO_ERROR = "-"


class Quantity(StrEnum):
    LATENCY_MS = "latency_ms"
    PROMPT_TOKENS = "prompt_tokens"
    COMPLETION_TOKENS = "completion_tokens"


class LevelName(StrEnum):
    IN_FLIGHT = "in_flight"
    QUEUED = "queued"


@dataclass(frozen=True, slots=True)
class Calls:
    """Finished calls to a model. `code` says why they have no answer; it is "" if they have one."""

    lane: str
    code: str
    model: str


@dataclass(frozen=True, slots=True)
class Durations:
    """Finished calls whose duration is in a bucket of `shared.monitoring.histogram`."""

    lane: str
    bucket: int


@dataclass(frozen=True, slots=True)
class Total:
    """A quantity, summed over the finished calls."""

    lane: str
    quantity: Quantity


@dataclass(frozen=True, slots=True)
class Level:
    """How many items were in flight or queued when the step was first reported to."""

    lane: str
    name: LevelName


Counter = Calls | Durations | Total | Level

_QUANTITIES = {str(quantity): quantity for quantity in Quantity}
_LEVELS = {str(name): name for name in LevelName}


def encode(counter: Counter) -> bytes:
    match counter:
        case Calls(lane, code, model):
            field = f"{lane} calls {code or _NO_ERROR} {model}"
        case Durations(lane, bucket):
            field = f"{lane} duration {bucket}"
        case Total(lane, name) | Level(lane, name):
            field = f"{lane} {name}"
    return field.encode()


@lru_cache(maxsize=4096)  # the same fields are read from each step of the history
def decode(field: bytes) -> Counter | None:
    """Returns None for a counter that a newer version added."""
    # A model's name may contain spaces; it comes last.
    lane, kind, *rest = field.decode().split(" ", 3)
    match kind, rest:
        case "calls", [code, model]:
            return Calls(lane, "" if code == _NO_ERROR else code, model)
        case "duration", [bucket]:
            return Durations(lane, int(bucket))
        case _, [] if kind in _QUANTITIES:
            return Total(lane, _QUANTITIES[kind])
        case _, [] if kind in _LEVELS:
            return Level(lane, _LEVELS[kind])
        case _:
            return None
