"""The page at `/`: files that need no build step; the browser takes nothing from elsewhere."""

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = "/static"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asked for again, answered by 304
}


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> FileResponse:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response  # type: ignore[return-value]


def add_page(app: FastAPI) -> None:
    directory = Path(str(files("api").joinpath("static")))
    app.mount(STATIC, _Files(directory=directory))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(directory / "index.html", headers=_HEADERS)
