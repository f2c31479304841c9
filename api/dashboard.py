"""Serves the dashboard at `/`: static files without a build step. The browser loads nothing from
another host."""

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, HTMLResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from shared.version import VERSION

STATIC = "/static"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # a browser asks each time, and gets 304 for the same file
}


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> FileResponse:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response  # type: ignore[return-value]


def add_dashboard(app: FastAPI) -> None:
    directory = Path(str(files("api").joinpath("static")))
    app.mount(STATIC, _Files(directory=directory))
    index = directory.joinpath("index.html").read_text().replace("{version}", VERSION)

    @app.get("/", include_in_schema=False)
    async def dashboard() -> HTMLResponse:
        return HTMLResponse(index, headers=_HEADERS)
