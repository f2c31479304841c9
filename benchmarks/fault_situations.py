"""Lists the situations in which `provider_faults` compares systems."""

from dataclasses import dataclass, field
from typing import Any

LIMIT = 10  # calls at once


@dataclass(frozen=True, slots=True)
class Situation:
    """Describes what the provider does while a job runs.

    ideal_s: time that the job takes if no call is wasted.
    behaviour: the provider's behaviour from the start.
    fault: a behaviour that begins `fault_after_s` after the start.
    timeout_s: time limit of one call, which the systems get as a setting.
    rpm: limit of requests a minute, which the systems get as a setting.
    limited: number of items beyond `items`, for the model `limited`, which always gets 429.
    poisoned: how many of the `items` always get 500.
    """

    name: str
    items: int
    ideal_s: float
    behaviour: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, Any] | None = None
    fault_after_s: float = 1
    timeout_s: float = 30
    rpm: int | None = None
    limited: int = 0
    poisoned: int = 0

    def requests(self, model: str) -> list[tuple[str, str]]:
        """Returns the model and the prompt of each item."""
        prompts = [f"{'POISON ' if n < self.poisoned else ''}{n}" for n in range(self.items)]
        limited = [("limited", f"limited {n}") for n in range(self.limited)]
        return [*limited, *((model, prompt) for prompt in prompts)]


def _outage(name: str, seconds: float, **outage: Any) -> Situation:  # noqa: ANN401 — JSON
    """Returns a situation with 500 calls of 50 ms, and an outage after a second."""
    fault = {"latency_ms": 50, "outage": {"seconds": seconds, **outage}}
    return Situation(name, 500, 2.5 + seconds, {"latency_ms": 50}, fault)


_QUOTA = {"error": {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}}
_LIMITED = {"latency_ms": 50, "limit": 0, "retry_after": "2"}

SITUATIONS = [
    Situation("no fault, 500 items", 500, 2.5, {"latency_ms": 50}),
    _outage("503 for 6 s in the middle of 500 items", 6, status=503),
    _outage("every connection is closed for 6 s", 6, status=None),
    _outage("the key is refused for 6 s (401)", 6, status=401),
    _outage("no quota for 6 s (429 `insufficient_quota`)", 6, status=429, body=_QUOTA),
    Situation(
        "one request of 200 always gets 500",
        *(200, 2),
        {"latency_ms": 100, "poison": "POISON"},
        poisoned=1,
    ),
    Situation(
        "2 calls in 4 s, `X-RateLimit-Reset`, 10 items",
        *(10, 16),
        {"latency_ms": 50, "window": {"calls": 2, "seconds": 4}},
    ),
    Situation(
        "a model that loads for 5 s, time-out 3 s, 200 items",
        *(200, 7),
        {"latency_ms": 100, "load_s": 5},
        timeout_s=3,
    ),
    Situation(
        "one call of 0.3 s at a time, time-out 2 s, 40 items",
        *(40, 12),
        {"latency_ms": 300, "slots": 1},
        timeout_s=2,
    ),
    Situation(
        "500 items, and 10 for a rate-limited model",
        *(500, 2.5),
        {"latency_ms": 50, "by_model": {"limited": _LIMITED}},
        limited=10,
    ),
    Situation(
        "600 requests a minute as a token bucket, 200 items",
        *(200, 19),
        {"latency_ms": 50, "budget": {"rpm": 600, "charge_refused": True}},
        rpm=600,
    ),
]
