"""Tests `/docs` and the dashboard in a real Chromium: directly, and below a prefix of a proxy."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page
from support.authentication import ANN, API_KEYS
from support.browser import needs_chromium, opened
from support.nginx import needs_nginx
from support.search_depth import FULL
from support.stack import Start
from support.tls_proxy import tls_proxy

from api.pages.docs_page import DOCS

pytestmark = pytest.mark.asyncio(loop_scope="package")  # one browser serves the tests of all pages

BATCH = "#operations-Batches-post_batch_batch_post"  # the section of POST /batch


async def try_batch(page: Page) -> int:
    """Runs the example of `POST /batch` on the page. Returns the status of the response."""
    await page.locator(BATCH).click()
    await page.get_by_role("button", name="Try it out").click()
    async with page.expect_response("**/batch**") as answered:
        await page.get_by_role("button", name="Execute").click()
    return (await answered.value).status


@needs_chromium
@pytest.mark.parametrize("path", [DOCS, f"{DOCS}/"] if FULL else [f"{DOCS}/"])
async def test_the_docs_work_without_a_key_and_without_another_host(
    stack: Start, browser: Browser, path: str
) -> None:
    deployment = await stack(workers=1, key=ANN, API_KEYS=API_KEYS, DASHBOARD="false")
    root = str(deployment.api.base_url).rstrip("/")
    async with opened(browser, root, f"{root}{path}") as page:
        await page.locator(BATCH).wait_for()
        await page.get_by_role("button", name="Authorize").first.click()
        await page.get_by_role("textbox").fill(ANN)
        await page.get_by_role("button", name="Apply credentials").click()
        await page.get_by_role("button", name="Close").click()

        assert await try_batch(page) == 200


@needs_chromium
@needs_nginx
@pytest.mark.parametrize("settings", [{}, {"ROOT_PATH": "/llm"}] if FULL else [{}], ids=str)
async def test_the_pages_work_below_a_prefix(
    stack: Start, browser: Browser, tmp_path: Path, settings: dict[str, str]
) -> None:
    # nginx replaces the header Host, so the proxy's own host must be an allowed origin.
    deployment = await stack(workers=1, ALLOWED_HOSTS="127.0.0.1", **settings)
    location = f"location /llm/ {{ proxy_pass {deployment.api.base_url}/; proxy_buffering off; }}"
    async with tls_proxy(tmp_path, location.replace("//;", "/;")) as url:
        root = f"{url}/llm/"
        async with opened(browser, root, f"{root}docs", ignore_https_errors=True) as page:
            await page.locator(BATCH).wait_for()
            assert await try_batch(page) == 200
        async with opened(browser, root, root, ignore_https_errors=True) as page:
            await page.locator(".connection", has_text="live").wait_for()
            await page.get_by_role("link", name="Jobs").click()
            await (
                page.get_by_role("row").nth(1).wait_for()
            )  # one job, below the names of the columns
            await page.get_by_role("link", name="API docs").click()
            await page.locator(BATCH).wait_for()
