"""Enforces windows such as two calls in 8 s, as OpenRouter does for its free models."""

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from cli.simulator.scopes import Scope, SimulatedRefusal


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Window:
    """Describes a window, which opens with a call and admits `calls` calls within `seconds`.

    Further calls get 429 with the end of the window in `X-RateLimit-Reset`, in epoch milliseconds.
    A Retry-After comes only from the behaviour's `retry_after`. `per` says which calls share a
    window.
    """

    calls: Annotated[int, Field(gt=0)]
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    per: Scope = "account"


class WindowState:
    """Contains the open window, and counts the calls in it."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._ends_at = 0.0  # epoch seconds
        self._calls = 0

    def admit(self, now: float) -> SimulatedRefusal | None:
        """Counts the call. Returns the refusal if the window has no room for the call.

        now: epoch seconds.
        """
        if now >= self._ends_at:
            self._ends_at = now + self._window.seconds
            self._calls = 0
        if self._calls < self._window.calls:
            self._calls += 1
            return None
        headers = {
            "X-RateLimit-Limit": f"{self._window.calls}",
            "X-RateLimit-Remaining": "0",
            # Rounded up, because a call at this time must be admitted.
            "X-RateLimit-Reset": f"{int(self._ends_at * 1000) + 1}",
        }
        return SimulatedRefusal(
            429, "Rate limit exceeded: free-models-per-min", tuple(headers.items())
        )
