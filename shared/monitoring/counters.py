"""Converts the counters of the history between Python values and fields of a hash in Redis.

Each hash (`Keys.history`) covers `STEP_S` seconds and all lanes:

    "<lane> calls <error code or -> <model>"                       Calls
    "<lane> duration <histogram bucket>"                           Durations
    "<lane> latency_ms", "… prompt_tokens", "… completion_tokens"  Total
    "<lane> in_flight", "… queued"                                 Level

The reports of workers add to Calls, Durations and Total. The first report in a step sets Level.
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
    """Names the counter of a model's calls that ended with the error `code`.

    If `code` is "", names the counter of the calls that ended with an answer.
    """

    lane: str
    code: str
    model: str


@dataclass(frozen=True, slots=True)
class Durations:
    """Names the counter of ended calls whose duration is in a bucket of
    `shared.monitoring.histogram`."""

    lane: str
    bucket: int


@dataclass(frozen=True, slots=True)
class Total:
    """Names the sum of a quantity over the ended calls."""

    lane: str
    quantity: Quantity


@dataclass(frozen=True, slots=True)
class Level:
    """Names the number of items that were running or queued at the first report of the step."""

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


@lru_cache(maxsize=4096)  # the steps of the history have mostly the same fields
def decode(field: bytes) -> Counter | None:
    """Returns the counter, or None if the field is of a kind that only newer versions write."""
    # A model's name comes last, because it may contain spaces.
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
