"""Limits how many requests are open at once, and the memory that their bodies take together."""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from api.asgi_scope import MEMORY, path_below_prefix
from api.errors.error_body import refusal
from shared.memory_budget import MemoryBudget
from shared.owner_shares import OwnerShares

ANONYMOUS = "/"  # owner of the requests without a key; no key can have an owner of this name
_FULL = "this server has MAX_OPEN_REQUESTS open requests; try again later"
_SHARE = (
    "the rest of MAX_OPEN_REQUESTS is kept for other owners, because you have {taken} open requests"
    " or streams; end some, or try again later"
)


class ConcurrencyLimitMiddleware:
    """Refuses requests above the limit with 503 and Retry-After, but never `/health`.

    Owners share the limit, so that the streams of one owner cannot keep out the other owners. If
    API_KEYS is set, all requests without a key, which get only pages without data and
    `/health/ready`, count as requests of one more owner. Each request except `/health` gets a
    reservation of memory in its ASGI scope. The reservation ends with the request.
    """

    def __init__(
        self, app: ASGIApp, limit: int, owners: Collection[str], memory_bytes: int
    ) -> None:
        self._app = app
        only_owner = "" if not owners else next(iter(owners)) if len({*owners}) == 1 else None
        self._shares = OwnerShares(limit, unshared=only_owner)
        self._without_key = ANONYMOUS if owners else ""
        self._memory = MemoryBudget(memory_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_health_check(scope):
            await self._app(scope, receive, send)
            return
        owner = scope.get("owner", self._without_key)
        if not self._shares.take(owner):
            taken = self._shares.taken(owner)
            detail = _FULL if self._shares.is_full else _SHARE.format(taken=taken)
            await refusal(scope, 503, detail, {"Retry-After": "1"})(scope, receive, send)
            return
        try:
            with self._memory.reservation() as scope[MEMORY]:
                await self._app(scope, receive, send)
        finally:
            self._shares.give_back(owner)


def _is_health_check(scope: Scope) -> bool:
    return scope["path"].endswith("/health") and path_below_prefix(scope) == "/health"
