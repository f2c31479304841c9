"""Decides when a request is repeated, and for how long."""

import asyncio
from collections.abc import Callable
from time import monotonic

from orchestrator_client.errors import ConnectionFailed, ServiceUnavailable

RETRY_S = 0.5

Retryable = ConnectionFailed | ServiceUnavailable


class RetryBudget:
    """Limits the time for which one request is repeated.

    duration_s: the limit, in seconds from the first failure, or from the first failure after
        `renew`.
    on_retry: function that is called with the reason before a retry, once for each reason.
    """

    def __init__(self, duration_s: float, on_retry: Callable[[str], None]) -> None:
        self._duration_s = duration_s
        self._ends_at: float | None = None
        self._on_retry = on_retry
        self._reported: set[str] = set()

    def renew(self) -> None:
        """Allows retries for the whole duration again, because the API has answered."""
        self._ends_at = None

    def report(self, reason: str) -> None:
        """Calls `on_retry`, unless it was called with this reason."""
        if reason not in self._reported:
            self._reported.add(reason)
            self._on_retry(reason)

    async def wait(self, error: Retryable) -> None:
        """Sleeps until the next attempt.

        Raises `error` instead if its `retry_after_s` is None, because no attempt can succeed, or if
        the next attempt would be after the limit.
        """
        now = monotonic()
        if self._ends_at is None:
            self._ends_at = now + self._duration_s
        if error.retry_after_s is None or now + error.retry_after_s > self._ends_at:
            raise error
        self.report(str(error))
        await asyncio.sleep(error.retry_after_s)
