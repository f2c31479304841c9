"""Enforces budgets of requests and tokens a minute, as token buckets."""

from dataclasses import field
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from cli.simulator.chat import Chat
from cli.simulator.connection import Headers
from cli.simulator.scopes import Scope, SimulatedRefusal

_MIN_REQUESTS = 2
_SECOND_MS = 1000
_ROUNDING = 1e-9  # a smaller difference is a rounding error

PerMinute = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Budget:
    """Describes a budget. A call that exceeds it gets 429.

    rpm, tpm: requests and tokens a minute: the rates at which the two buckets are filled.
    burst_s: seconds of its rate that a bucket holds. The bucket of requests holds at least two, and
        the bucket of tokens at least the tokens that the largest call so far needed at its start.
    per: which calls share the budget: all (`account`), those with one `key`, or for one `model`.
    charge_refused: whether a refused call uses a request of the budget, as at OpenAI.
    reserve_output: whether a call starts only if the bucket has room for its `max_tokens`, too. The
        unused part returns to the bucket at the end of the call. If false, the answer's tokens are
        charged at the end of the call.
    headers: `openai`: the budget's 429s and whole answers have `x-ratelimit-…`, but streams do not;
        `retry-after`: the budget's 429s have Retry-After, in whole seconds; `none`: the budget
        adds no header.
    """

    rpm: PerMinute | None = None
    tpm: PerMinute | None = None
    burst_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1
    per: Scope = "account"
    charge_refused: bool = False
    reserve_output: bool = False
    headers: Literal["openai", "retry-after", "none"] = "openai"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rpm is None and self.tpm is None:
            raise ValueError("a budget must have rpm or tpm")
        return self


@dataclass(slots=True)
class Bucket:
    """Fills at a constant rate up to its size. Times are seconds of a monotonic clock."""

    per_s: float
    size: float
    level: float = field(init=False)
    filled_at: float | None = None
    first_at: float | None = None
    last_at: float = 0
    admitted: float = 0

    def __post_init__(self) -> None:
        self.level = self.size

    def wait_s(self, cost: float, now: float) -> float:
        """Returns the time until the bucket has room for a call; 0 if it has room now.

        Fills the bucket up to `now`. A cost above the bucket's size makes the bucket larger.
        """
        if cost > self.size:
            self.level += cost - self.size
            self.size = cost
        since_s = now - (now if self.filled_at is None else self.filled_at)
        self.level = min(self.size, self.level + since_s * self.per_s)
        self.filled_at = now
        missing = cost - self.level
        return missing / self.per_s if missing > _ROUNDING else 0

    def admit(self, cost: float, now: float) -> None:
        self.level -= cost
        self.admitted += cost
        self.first_at = now if self.first_at is None else self.first_at
        self.last_at = now

    def correct(self, difference: float) -> None:
        self.level = min(self.size, self.level - difference)
        self.admitted += difference

    def report(self) -> dict[str, float]:
        """Returns the requests or tokens that the bucket has admitted, and how many were possible.

        Both are counted from the first admitted call to the last.
        """
        spent_s = self.last_at - (self.first_at or self.last_at)
        return {"admitted": self.admitted, "possible": self.size + spent_s * self.per_s}


class BudgetState:
    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._buckets: dict[str, Bucket] = {}
        for name, per_minute, least in (
            ("requests", budget.rpm, _MIN_REQUESTS),
            ("tokens", budget.tpm, 0),
        ):
            if per_minute is not None:
                size = max(per_minute / 60 * budget.burst_s, least)
                self._buckets[name] = Bucket(per_minute / 60, size)

    def admit(self, chat: Chat, now: float) -> SimulatedRefusal | None:
        """Charges the call if both buckets have room for it; otherwise returns the refusal.

        now: seconds of a monotonic clock.
        """
        costs = {"requests": 1, "tokens": self._reserved(chat)}
        waits_s = {name: bucket.wait_s(costs[name], now) for name, bucket in self._buckets.items()}
        wait_s = max(waits_s.values())
        if not wait_s:
            for name, bucket in self._buckets.items():
                bucket.admit(costs[name], now)
            return None
        requests = self._buckets.get("requests")
        if self._budget.charge_refused and requests:
            requests.level = max(-requests.size, requests.level - 1)
        return self._refusal(max(waits_s, key=waits_s.__getitem__), wait_s)

    def settle(self, chat: Chat, answer_tokens: int) -> None:
        """Charges the tokens above the reservation of the call, or gives unused tokens back."""
        if tokens := self._buckets.get("tokens"):
            tokens.correct(chat.prompt_tokens + answer_tokens - self._reserved(chat))

    def headers(self) -> Headers:
        if self._budget.headers != "openai":
            return ()
        found: list[tuple[str, str]] = []
        for name, bucket in self._buckets.items():
            values = {
                "limit": f"{bucket.per_s * 60:.0f}",
                "remaining": f"{max(0, int(bucket.level))}",
                "reset": go_duration((bucket.size - bucket.level) / bucket.per_s),
            }
            found += [(f"x-ratelimit-{kind}-{name}", value) for kind, value in values.items()]
        return tuple(found)

    def report(self) -> dict[str, Any]:
        return {name: bucket.report() for name, bucket in self._buckets.items()}

    def _reserved(self, chat: Chat) -> int:
        return chat.prompt_tokens + (chat.max_tokens if self._budget.reserve_output else 0)

    def _refusal(self, exceeded: str, wait_s: float) -> SimulatedRefusal:
        message = f"Rate limit reached on {exceeded} per min"
        match self._budget.headers:
            case "openai":
                message += f". Please try again in {go_duration(wait_s)}."
                return SimulatedRefusal(429, message, self.headers())
            case "retry-after":
                return SimulatedRefusal(429, message, (("Retry-After", f"{-int(-wait_s // 1)}"),))
            case _:
                return SimulatedRefusal(429, message)


def go_duration(seconds: float) -> str:
    """Returns the duration as OpenAI's headers have it: `120ms`, `1.5s`, `6m0s`."""
    milliseconds = -int(-seconds * _SECOND_MS // 1)
    if milliseconds < _SECOND_MS:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60 * _SECOND_MS)
    text = f"{milliseconds / _SECOND_MS:g}s"
    return f"{minutes}m{text}" if minutes else text
