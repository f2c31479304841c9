"""Answers a path with a slash at its end like the path without the slash.

The framework would redirect such a request to an address that it takes from the Host header. Behind
a proxy that does TLS, this address has the wrong scheme and often the wrong host.
"""

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send


def accept_trailing_slashes(app: FastAPI) -> None:
    """Routes a request again, without the slashes at the end, if no route has the request's path.

    Expects an application that was created with `redirect_slashes=False`.
    """
    not_found = app.router.default

    async def route_without_slash(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] == "http" and path.endswith("/"):
            scope["path"] = path.rstrip("/")
            await app.router.app(scope, receive, send)
        else:
            await not_found(scope, receive, send)

    app.router.default = route_without_slash
