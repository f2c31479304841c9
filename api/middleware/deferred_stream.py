"""Sends a stream after its route has returned."""

from starlette.types import ASGIApp, Receive, Scope, Send

from api.middleware.request_metrics import ROUTE
from api.stream_response import STREAMS, StreamResponse


class DeferredStreamMiddleware:
    """Runs the StreamResponse that a route has returned, once the framework is done with it.

    Run from within the route, a stream would keep all that the framework holds for a request for
    as long as it lasts, which is twice as much memory as the rest of the stream.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams: list[StreamResponse] = []
        scope[STREAMS] = streams
        known = set(scope)
        await self._app(scope, receive, send)
        if streams:
            for name in scope.keys() - known - {ROUTE}:
                del scope[name]
            del known
            await streams.pop().run(receive, send)
