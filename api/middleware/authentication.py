"""Who asks: the owner of the API key, RFC 6750."""

from collections.abc import Awaitable, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.dashboard import STATIC
from shared.settings import ApiKey

BEARER = HTTPBearer(auto_error=False, description="Wanted where `API_KEYS` is set.")


OPEN_PATHS = ("/", "/health")  # the page has no data of its own


class AuthenticationMiddleware:
    """Where keys are set, all but the health check and the page's files wants one: else 401."""

    def __init__(self, app: ASGIApp, keys: Sequence[ApiKey]) -> None:
        self._app = app
        self._keys = keys

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and self._keys and not _is_open(scope["path"]):
            owner = self._owner(Headers(scope=scope).get("authorization", ""))
            if owner is None:
                refusal = JSONResponse(
                    {"detail": "a valid API key is needed: Authorization: Bearer …"},
                    401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
                return refusal(scope, receive, send)
            scope["owner"] = owner
        return self._app(scope, receive, send)

    def _owner(self, authorization: str) -> str | None:
        scheme, _, key = authorization.partition(" ")
        digest = sha256(key.strip().encode()).digest()
        owner = None
        for known in self._keys:  # all of them: the time tells nothing about which
            if compare_digest(digest, known.sha256) and scheme.lower() == "bearer":
                owner = known.owner
        return owner


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(f"{STATIC}/")


async def _owner(request: Request) -> str:
    """Empty where no keys are set."""
    owner: str = request.scope.get("owner", "")
    return owner


OwnerDep = Annotated[str, Depends(_owner)]
