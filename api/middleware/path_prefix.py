"""Serves the API below a path prefix, for a reverse proxy whose host also has other sites."""

from collections.abc import Awaitable

from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class PathPrefixMiddleware:
    """Sets the ASGI `root_path` to the prefix, and adds the prefix to the header Location.

    The proxy may remove the prefix from the path or keep it. A request for the prefix without a
    slash at its end is redirected to the dashboard, whose relative links need the slash.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        prefix, path = self._prefix, scope["path"]
        if path == prefix:
            return RedirectResponse(f"{prefix}/")(scope, receive, send)
        if not path.startswith(f"{prefix}/"):
            scope["path"] = prefix + path
        scope["root_path"] = prefix

        async def send_with_prefix(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                location = headers.get("location", "")
                if location.startswith("/") and not location.startswith(f"{prefix}/"):
                    headers["location"] = prefix + location
            await send(message)

        return self._app(scope, receive, send_with_prefix)
