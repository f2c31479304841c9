"""Checks the API key of a request (bearer token, RFC 6750) and determines its owner."""

from collections.abc import Awaitable, Sequence
from hashlib import sha256
from hmac import compare_digest

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.dashboard import STATIC
from api.docs_page import DOCS
from api.middleware.path_prefix import path_below_prefix
from api.refusals import refusal
from shared.settings import ApiKey

# Paths that need no key. The files of the dashboard and of the documentation contain no data.
OPEN_PATHS = ("/", "/health", "/health/ready", DOCS, "/openapi.json")
OPEN_FOLDERS = (f"{STATIC}/", f"{DOCS}/")


class AuthenticationMiddleware:
    """Refuses requests without a valid key with 401, if `API_KEYS` is set.

    The health checks, the documentation and the files of the dashboard need no key. The owner of a
    valid key becomes the field `owner` of the ASGI scope.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[ApiKey]) -> None:
        self._app = app
        self._keys = keys

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and self._keys:
            owner = self._owner(Headers(scope=scope).get("authorization", ""))
            if owner is not None:
                scope["owner"] = owner
            elif not _is_open(path_below_prefix(scope)):
                response = refusal(
                    scope,
                    401,
                    "a valid API key is required, as Authorization: Bearer YOUR_KEY",
                    {"WWW-Authenticate": "Bearer"},
                )
                return response(scope, receive, send)
        return self._app(scope, receive, send)

    def _owner(self, authorization: str) -> str | None:
        scheme, _, key = authorization.partition(" ")
        digest = sha256(key.strip().encode()).digest()
        owner = None
        for known in self._keys:  # every key, so that the time does not show which key matched
            if compare_digest(digest, known.sha256) and scheme.lower() == "bearer":
                owner = known.owner
        return owner


def _is_open(path: str) -> bool:
    return (path.rstrip("/") or "/") in OPEN_PATHS or path.startswith(OPEN_FOLDERS)
