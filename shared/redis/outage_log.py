"""Logs that Redis is unavailable, and that Redis is available again."""

from collections.abc import Callable
from time import monotonic
from urllib.parse import urlsplit

import structlog

REPEAT_S = 30.0
# `orchestrator up` sets this variable for its workers, because its API logs the outages.
LOGGED_ELSEWHERE = "REDIS_OUTAGES_LOGGED_ELSEWHERE"
# If Redis is full, writes fail although reads succeed. So an outage ends only after a time without
# a failed command.
QUIET_S = 2.0

log = structlog.get_logger()


class OutageLog:
    """Writes a line when commands begin to fail, every 30 s while they fail, and at the end.

    Without this limit, every failing command would write a line, many times a second.
    """

    def __init__(self, address: str, clock: Callable[[], float] = monotonic) -> None:
        self._address = address
        self._clock = clock
        self._since: float | None = None
        self._last_failure = 0.0
        self._last_line: float | None = None
        self._is_reported = False

    @property
    def is_open(self) -> bool:
        return self._since is not None

    def failed(self, reason: str) -> None:
        now = self._last_failure = self._clock()
        if self._since is None:
            self._since = now
        if self._last_line is not None and now - self._last_line < REPEAT_S:
            return
        self._last_line, self._is_reported = now, True
        lasts = {"lasts_s": round(now - self._since)} if now > self._since else {}
        log.warning(
            "redis_unavailable",
            redis=self._address,
            reason=reason,
            consequence="accepted jobs are safe; retrying",
            **lasts,
        )

    def succeeded(self) -> None:
        """Ends the outage if no command has failed for `QUIET_S`."""
        now = self._clock()
        if self._since is None or now - self._last_failure < QUIET_S:
            return
        if self._is_reported:
            after_s = round(self._last_failure - self._since, 1)
            log.warning("redis_available", redis=self._address, after_s=after_s)
        self._since, self._is_reported = None, False


def redis_address(url: str) -> str:
    """Returns host and port, the socket's path, or master and sentinels; never the password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    hosts = parts.netloc.rpartition("@")[2]
    if "+sentinel" in parts.scheme:
        return f"{parts.path.strip('/')} at the sentinels {hosts}"
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
