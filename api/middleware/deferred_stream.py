"""Sends a stream after its route has returned."""

from starlette.types import ASGIApp, Receive, Scope, Send

from api.asgi_scope import MEMORY
from api.middleware.request_metrics import ROUTE
from api.streams.heartbeats import Heartbeats
from api.streams.stream_response import STREAMS, StreamResponse


class DeferredStreamMiddleware:
    """Runs the StreamResponse of a route after the framework has finished the request.

    If the framework ran the stream, everything that the framework stores for the request would stay
    in memory until the stream ends. These objects take twice as much memory as the stream itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._heartbeats = Heartbeats()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams: list[StreamResponse] = []
        scope[STREAMS] = streams
        known = set(scope)
        await self._app(scope, receive, send)
        if streams:
            for name in scope.keys() - known - {ROUTE}:
                del scope[name]
            del known
            scope[MEMORY].resize(0)  # the body of the request is no longer in memory
            await streams.pop().run(receive, send, self._heartbeats)
