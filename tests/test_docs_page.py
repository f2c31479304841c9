"""Tests `/docs` and the dashboard in a real Chromium: directly, and below a prefix of a proxy."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import ConsoleMessage, Page, Request, async_playwright
from support.authentication import ANN, API_KEYS
from support.nginx import needs_nginx
from support.stack import Stack
from support.tls_proxy import tls_proxy

from api.docs_page import DOCS

Start = Callable[..., Awaitable[Stack]]

BATCH = "#operations-Batches-post_batch_batch_post"  # the section of POST /batch
CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="Chromium (Debian's package) is not installed"
)


@asynccontextmanager
async def visit(root: str, path: str, **options: Any) -> AsyncIterator[Page]:
    """Opens a page. Fails if it writes to the console, or asks for something outside `root`."""
    wrong: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        wrong.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((root, "data:", "blob:")):
            wrong.append(request.url)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        context = await browser.new_context(ignore_https_errors=True, **options)
        page = await context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", asked)
        await page.goto(f"{root}{path}")
        yield page
        await browser.close()
    assert wrong == []


async def try_batch(page: Page) -> int:
    """Runs the example of `POST /batch` on the page. Returns the status of the response."""
    await page.locator(BATCH).click()
    await page.get_by_role("button", name="Try it out").click()
    async with page.expect_response("**/batch**") as answered:
        await page.get_by_role("button", name="Execute").click()
    return (await answered.value).status


@needs_chromium
@pytest.mark.parametrize("path", [DOCS, f"{DOCS}/"])
async def test_the_docs_work_without_a_key_and_without_another_host(
    stack: Start, path: str
) -> None:
    deployment = await stack(workers=1, key=ANN, API_KEYS=API_KEYS, DASHBOARD="false")
    async with visit(str(deployment.api.base_url).rstrip("/"), path) as page:
        await page.locator(BATCH).wait_for()
        await page.get_by_role("button", name="Authorize").first.click()
        await page.get_by_role("textbox").fill(ANN)
        await page.get_by_role("button", name="Apply credentials").click()
        await page.get_by_role("button", name="Close").click()

        assert await try_batch(page) == 200


@needs_chromium
@needs_nginx
@pytest.mark.parametrize("settings", [{}, {"ROOT_PATH": "/llm"}], ids=["unknown", "ROOT_PATH"])
async def test_the_pages_work_below_a_prefix(
    stack: Start, tmp_path: Path, settings: dict[str, str]
) -> None:
    # nginx replaces the header Host, so the proxy's own host must be an allowed origin.
    deployment = await stack(workers=1, ALLOWED_HOSTS="127.0.0.1", **settings)
    location = f"location /llm/ {{ proxy_pass {deployment.api.base_url}/; proxy_buffering off; }}"
    async with tls_proxy(tmp_path, location.replace("//;", "/;")) as url:
        async with visit(f"{url}/llm/", "docs") as page:
            await page.locator(BATCH).wait_for()
            assert await try_batch(page) == 200
        async with visit(f"{url}/llm/", "") as page:
            await page.locator(".connection", has_text="live").wait_for()
            await page.get_by_role("link", name="Jobs").click()
            await (
                page.get_by_role("row").nth(1).wait_for()
            )  # one job, below the names of the columns
            await page.get_by_role("link", name="API docs").click()
            await page.locator(BATCH).wait_for()


async def test_the_docs_are_served_safely(stack: Start) -> None:
    deployment = await stack(workers=0, API_KEYS=API_KEYS, key=ANN)
    async with httpx.AsyncClient(base_url=deployment.api.base_url) as anybody:
        page = await anybody.get("/docs")
        script = await anybody.get("/docs/docs.js")
        outside = await anybody.get("/docs/%2e%2e/docs_page.py")
        schema = await anybody.get("/openapi.json")
        framework = [await anybody.get(path) for path in ("/redoc", "/docs/oauth2-redirect")]

    for answer in (page, script):
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "http" not in page.text
    assert outside.status_code == 404
    assert schema.status_code == 200
    assert [answer.status_code for answer in framework] == [401, 404]
