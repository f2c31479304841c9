"""The id of a request: on each line of the log, and in the answer."""

from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

REQUEST_ID = "X-Request-ID"
MAX_ID = 64


class RequestId:
    """Middleware. It is the client's own, if it sent one that can be used."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _usable(Headers(scope=scope).get(REQUEST_ID, "")) or uuid4().hex

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with bound_contextvars(request=request_id):
            await self._app(scope, receive, sending)


def _usable(request_id: str) -> str:
    plain = request_id.isascii() and request_id.isprintable() and " " not in request_id
    return request_id if plain and len(request_id) <= MAX_ID else ""
