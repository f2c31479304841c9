"""Serves static files. Defines headers with which a browser loads nothing from another host."""

from starlette import staticfiles
from starlette.responses import FileResponse
from starlette.types import Scope

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # a browser asks each time, and gets 304 for the same file
}


class StaticFiles(staticfiles.StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> FileResponse:
        response = await super().get_response(path, scope)
        response.headers.update(PAGE_HEADERS)
        return response  # type: ignore[return-value]
