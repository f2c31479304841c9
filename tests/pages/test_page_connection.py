"""Tests what the page shows without an API key, a connection or Redis, in a real Chromium."""

import re
import signal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect
from support.authentication import ANN, API_KEYS, BOB
from support.browser import needs_chromium, visit
from support.jobs import lines, upload
from support.redis_server import Server
from support.stack import Stack, Start, chat

from shared.queue.redis_keys import Keys

NOTICED_MS = 15_000  # the page notices after 3.5 s of silence, on a busy machine some s later

pytestmark = [
    needs_chromium,
    pytest.mark.asyncio(loop_scope="package"),  # one browser serves the tests of all pages
]


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_a_lost_connection_is_shown_and_comes_back(
    stack: Start, browser: Browser, fault: str
) -> None:
    deployment = await stack(workers=1)
    async with visit(browser, deployment) as page:
        connection = page.locator(".connection")
        await expect(connection).to_have_text("live")
        if fault == "killed":
            deployment.api_process.kill()
            await deployment.api_process.wait()
        else:
            deployment.api_process.send_signal(signal.SIGSTOP)

        await expect(connection).to_have_text("disconnected", timeout=NOTICED_MS)
        await expect(page.get_by_text("Figures are from")).to_be_visible()
        await expect(page.get_by_role("region", name="openrouter")).to_be_visible()

        if fault == "killed":
            await deployment.restart_api()
        else:
            deployment.api_process.send_signal(signal.SIGCONT)
        await expect(connection).to_have_text("live")
        await expect(page.get_by_text("Figures are from")).to_have_count(0)


async def test_many_tabs_do_not_take_all_connections(stack: Start, browser: Browser) -> None:
    """A browser opens at most six connections to a host; a hidden tab must not keep any."""
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=60_000)
    location = (await upload(deployment.api, lines(["x"])))[1:]

    async def see(page: Page, *, seen: bool) -> None:
        await page.evaluate(
            """hidden => {
                Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            not seen,
        )

    async with visit(browser, deployment, location) as first:
        await expect(first.locator(".connection")).to_have_text("live")
        for _ in range(8):
            another = await first.context.new_page()
            await another.goto(f"/#/{location}")
            await expect(another.locator(".connection")).to_have_text("live")
            await see(another, seen=False)

        await deployment.simulate(latency_ms=0)
        await deployment.batch([chat("y")])
        await see(another, seen=True)

        await another.goto("/#/jobs")
        jobs = another.get_by_role("region", name="Jobs")
        await expect(jobs.get_by_text("completed")).to_be_visible()
        await expect(another.locator(".connection")).to_have_text("live")


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_redis_away_is_shown_and_comes_back(
    server: Server, keys: Keys, browser: Browser, fault: str
) -> None:
    deployment = Stack(server.url, keys, {})
    try:
        await deployment.start(workers=1)
        async with visit(browser, deployment) as page:
            workers = page.get_by_role("region", name="Workers")
            await expect(workers).to_contain_text(re.compile(r"alive.*\d s ago"))
            if fault == "kill":
                await server.kill()
            else:
                server.freeze()
            await expect(page.locator(".connection")).to_have_text("Redis unavailable")
            # Figures that were true before Redis became unavailable are not shown as true now.
            await expect(workers).to_contain_text(re.compile(r"unknown.*at \d{4}-\d\d-\d\d"))
            await expect(page.locator("main")).not_to_contain_text(
                re.compile(r"alive|ago\b|healthy")
            )
            await expect(page.locator(".moment", has_text="now")).to_have_count(0)
            others = []
            for path, missing in {
                "": "the overview",
                "jobs": "your jobs",
                "jobs/x": "the job",
            }.items():
                another = await page.context.new_page()
                await another.goto(f"/#/{path}")
                text = f"Cannot load {missing} now. This appears by itself when Redis is available"
                await expect(another.get_by_text(text)).to_be_visible()
                await expect(another.locator("main")).not_to_contain_text("Loading")
                others.append(another)
            if fault == "kill":
                await server.start()
            else:
                server.thaw()
            await expect(page.locator(".connection")).to_have_text("live")
            await expect(workers).to_contain_text(re.compile(r"alive.*\d s ago"))
            for another, shown in zip(
                others, ("of 10 calls running", "No jobs yet.", "no such job"), strict=True
            ):
                await expect(another.locator("main")).to_contain_text(shown)
    finally:
        await deployment.stop()


async def test_a_key_is_asked_for_and_kept_in_the_tab(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1, key=ANN, API_KEYS=API_KEYS)
    await deployment.batch([chat("x")])
    async with visit(browser, deployment, "jobs") as page:
        await expect(page.get_by_role("heading", name="Sign in with your API key")).to_be_visible()
        assert (await Axe().run(page)).violations_count == 0
        for wrong in ("wrong", "schlüssel€"):
            await page.get_by_label("API key").fill(wrong)
            await page.keyboard.press("Enter")
            await expect(page.get_by_text("Unknown API key.")).to_be_visible()
        await page.get_by_label("API key").fill(ANN)
        await page.keyboard.press("Enter")
        jobs = page.get_by_role("region", name="Jobs")
        await expect(jobs.get_by_role("row")).to_have_count(2)
        await expect(jobs).to_contain_text("ann")
        await page.reload()
        await expect(jobs.get_by_role("row")).to_have_count(2)
        assert await page.evaluate("Object.keys(localStorage)") == []
        assert await page.evaluate("document.cookie") == ""

        await page.get_by_role("button", name="Sign out").click()

        await expect(page.get_by_role("heading", name="Sign in with your API key")).to_be_visible()
        await page.get_by_label("API key").fill(BOB)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("No jobs yet.")).to_be_visible()
