"""Checks the API key of a request (bearer token, RFC 6750), and where the request comes from."""

from collections.abc import Awaitable, Mapping
from hashlib import sha256
from hmac import compare_digest

from starlette.types import ASGIApp, Receive, Scope, Send

from api.asgi_scope import path_below_prefix
from api.errors.error_body import refusal
from api.middleware.host_check import HostCheck
from api.pages.dashboard import STATIC
from api.pages.docs_page import DOCS
from shared.settings import Settings

HEALTH_CHECKS = ("/health", "/health/ready")
# Paths that need no key. The files of the dashboard and of the documentation contain no data.
OPEN_PATHS = ("/", *HEALTH_CHECKS, DOCS, "/openapi.json")
OPEN_FOLDERS = (f"{STATIC}/", f"{DOCS}/")
_KEY_REQUIRED = "a valid API key is required, as Authorization: Bearer YOUR_KEY"


class AuthenticationMiddleware:
    """Refuses requests without a valid key with 401, if `API_KEYS` is set.

    The health checks, the documentation and the files of the dashboard need no key. The owner of a
    valid key becomes the field `owner` of the ASGI scope. Requests that `HostCheck` refuses get a
    403. Health checks are never refused, because a probe calls a process by its address.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._keys = settings.api_keys
        self._hosts = None
        if settings.allowed_hosts or not self._keys:
            self._hosts = HostCheck(
                settings.allowed_hosts,
                without_keys=not self._keys,
                allow_keyless=settings.allow_keyless,
            )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        headers = dict(scope["headers"])
        if self._hosts is not None:
            reason = self._hosts.refusal(scope, headers)
            if reason is not None and _path(scope) not in HEALTH_CHECKS:
                return refusal(scope, 403, reason)(scope, receive, send)
        if self._keys:
            owner = self._owner(headers)
            if owner is not None:
                scope["owner"] = owner
            elif not _is_open(scope):
                response = refusal(scope, 401, _KEY_REQUIRED, {"WWW-Authenticate": "Bearer"})
                return response(scope, receive, send)
        return self._app(scope, receive, send)

    def _owner(self, headers: Mapping[bytes, bytes]) -> str | None:
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        scheme, _, key = authorization.partition(" ")
        digest = sha256(key.strip().encode()).digest()
        owner = None
        for known in self._keys:  # every key, so that the time does not show which key matched
            if compare_digest(digest, known.sha256) and scheme.lower() == "bearer":
                owner = known.owner
        return owner


def _path(scope: Scope) -> str:
    return path_below_prefix(scope).rstrip("/") or "/"


def _is_open(scope: Scope) -> bool:
    return _path(scope) in OPEN_PATHS or path_below_prefix(scope).startswith(OPEN_FOLDERS)
