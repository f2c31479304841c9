"""Opens the dashboard in a real Chromium."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    async_playwright,
    expect,
)

from support.stack import Stack

CHROMIUM = shutil.which("chromium")
QUIET = ("quic", "background-networking", "component-update", "sync")

needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="Chromium (Debian's package) is not installed"
)

# The default, 5 s, is too short for a browser on a busy machine.
expect.set_options(timeout=30_000)


@asynccontextmanager
async def open_browser(*options: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--no-first-run", *options]
            + [f"--disable-{feature}" for feature in QUIET],
        )
        yield browser
        await browser.close()


@asynccontextmanager
async def visit(
    browser: Browser, stack: Stack, path: str = "", *, width: int = 1280, scheme: Any = "light"
) -> AsyncIterator[Page]:
    """Opens a page of the dashboard, as `opened` does."""
    url = str(stack.api.base_url)
    async with opened(
        browser,
        url,
        f"{url.rstrip('/')}/#/{path}",
        # Chromium itself writes this line for each failed request.
        ignored="Failed to load resource",
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        reduced_motion="reduce",
    ) as page:
        yield page


@asynccontextmanager
async def opened(
    browser: Browser, root: str, url: str, *, ignored: str | None = None, **options: Any
) -> AsyncIterator[Page]:
    """Opens a page. Closes it when the block ends.

    Then fails if the page has written to the console, raised an error, or asked for a URL outside
    `root`.

    ignored: lines of the console with this text are not a failure.
    options: options of Playwright for the browser's context.
    """
    wrong: list[str] = []
    context = await browser.new_context(base_url=root, **options)

    def heard(message: ConsoleMessage) -> None:
        if ignored is None or ignored not in message.text:
            wrong.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((root, "data:", "blob:")):
            wrong.append(request.url)

    page = await context.new_page()
    page.on("console", heard)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", asked)
    await page.goto(url)
    try:
        yield page
    finally:
        await context.close()
    assert wrong == []
