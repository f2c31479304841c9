"""Opens the dashboard in a real Chromium."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

from support.stack import Stack

CHROMIUM = shutil.which("chromium")
QUIET = ("quic", "background-networking", "component-update", "sync")

needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="Chromium (Debian's package) is not installed"
)


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
    """Opens a page. Fails if the page writes to the console or sends a request to another host."""
    said: list[str] = []
    url = str(stack.api.base_url)
    context = await browser.new_context(
        base_url=url,
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        reduced_motion="reduce",
    )

    def heard(message: ConsoleMessage) -> None:
        # Chromium itself writes this line for each failed request.
        if "Failed to load resource" not in message.text:
            said.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            said.append(request.url)

    page = await context.new_page()
    page.on("console", heard)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", asked)
    await page.goto(f"/#/{path}")
    try:
        yield page
    finally:
        await context.close()
    assert said == []
