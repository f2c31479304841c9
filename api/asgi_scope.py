"""Reads the ASGI scope of a request, to which the middleware has added keys."""

from starlette.types import Scope

MEMORY = "orchestrator.memory"  # the reservation for the body; ConcurrencyLimitMiddleware sets it


def path_below_prefix(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
