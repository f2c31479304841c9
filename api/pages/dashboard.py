"""Serves the dashboard at `/`: static files without a build step. The browser loads nothing from
another host."""

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import HTMLResponse

from api.pages.static_files import PAGE_HEADERS, StaticFiles
from shared.version import VERSION

STATIC = "/static"


def add_dashboard(app: FastAPI) -> None:
    directory = Path(str(files("api").joinpath("static")))
    app.mount(STATIC, StaticFiles(directory=directory))
    index = directory.joinpath("index.html").read_text().replace("{version}", VERSION)

    @app.get("/", include_in_schema=False)
    async def dashboard() -> HTMLResponse:
        return HTMLResponse(index, headers=PAGE_HEADERS)
