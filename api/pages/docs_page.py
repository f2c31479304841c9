"""Serves the interactive documentation at `/docs` with Swagger UI from this package. The browser
loads nothing from another host."""

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse

from api.pages.static_files import PAGE_HEADERS, StaticFiles

DOCS = "/docs"


def add_docs_page(app: FastAPI) -> None:
    directory = Path(str(files("api").joinpath("swagger_ui")))
    index = directory.joinpath("index.html").read_text()

    async def docs(request: Request) -> HTMLResponse:
        # Relative links, because a proxy may serve the API below a path prefix.
        slash = request.url.path.endswith("/")
        return HTMLResponse(
            index.replace("{files}", "" if slash else "docs/"), headers=PAGE_HEADERS
        )

    for path in (DOCS, f"{DOCS}/"):
        app.add_api_route(path, docs, include_in_schema=False)
    app.mount(DOCS, StaticFiles(directory=directory))
