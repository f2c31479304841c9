"""When to ask an API again, and when to give up."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import httpx

RETRY_S = 0.5


class OrchestratorError(Exception):
    """Refused, with the reason the API gave; or not reachable, then without a status."""

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


class Later(Exception):
    """The API has no room, or cannot see Redis."""

    def __init__(self, detail: str, status: int, after_s: float) -> None:
        super().__init__(detail)
        self.status = status
        self.after_s = after_s


class Patience:
    def __init__(self, url: str, patience_s: float, on_trouble: Callable[[str], None]) -> None:
        self._url = url
        self._until = monotonic() + patience_s
        self._on_trouble = on_trouble

    async def wait(self, error: httpx.TransportError | Later) -> None:
        """Before the next try. Raises OrchestratorError when there is to be none."""
        if isinstance(error, Later):
            given_up, delay_s = OrchestratorError(str(error), error.status), error.after_s
        else:
            reason = str(error) or type(error).__name__
            given_up = OrchestratorError(f"the API at {self._url} cannot be reached: {reason}")
            delay_s = RETRY_S
        if monotonic() + delay_s > self._until:
            raise given_up from error
        self._on_trouble(str(given_up))
        await asyncio.sleep(delay_s)


async def check(answer: httpx.Response) -> None:
    """Raises Later, OrchestratorError."""
    if answer.is_success:
        return
    await answer.aread()
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.reason_phrase
    if answer.status_code in {429, 503}:
        after = answer.headers.get("retry-after", "")
        raise Later(str(detail), answer.status_code, float(after) if after.isdecimal() else RETRY_S)
    raise OrchestratorError(_text(detail), answer.status_code)


def _text(detail: str | list[dict[str, Any]]) -> str:
    """Of a 422 the places and what is wrong there, a line each."""
    if isinstance(detail, str):
        return detail
    return "\n".join(
        f"{' '.join(str(part) for part in error['loc'][1:])}: {error['msg']}" for error in detail
    )
