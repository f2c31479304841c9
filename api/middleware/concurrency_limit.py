"""A bound on the requests that are open at once: each holds a body or waits for a job."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class ConcurrencyLimitMiddleware:
    """Past the limit: 503 with Retry-After. The health check is always let through."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/health":
            await self._app(scope, receive, send)
            return
        if self._open >= self._limit:
            refusal = JSONResponse(
                {"detail": "too many requests are open"}, 503, headers={"Retry-After": "1"}
            )
            await refusal(scope, receive, send)
            return
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1
