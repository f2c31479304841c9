"""Limits how many requests are open at once, because each keeps a body in memory or waits."""

from starlette.types import ASGIApp, Receive, Scope, Send

from api.middleware.path_prefix import path_below_prefix
from api.refusals import refusal


class ConcurrencyLimitMiddleware:
    """Refuses requests above the limit with 503 and Retry-After, but never the health check."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_health_check(scope):
            await self._app(scope, receive, send)
            return
        if self._open >= self._limit:
            response = refusal(
                scope,
                503,
                "this server has MAX_OPEN_REQUESTS open requests; try again later",
                {"Retry-After": "1"},
            )
            await response(scope, receive, send)
            return
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1


def _is_health_check(scope: Scope) -> bool:
    return scope["path"].endswith("/health") and path_below_prefix(scope) == "/health"
