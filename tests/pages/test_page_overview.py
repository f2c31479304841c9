"""Tests the overview and its charts in a real Chromium."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, expect
from support.browser import needs_chromium, visit
from support.jobs import lines, upload, upload_slow_job
from support.stack import Start

from shared.version import VERSION

pytestmark = [
    needs_chromium,
    pytest.mark.asyncio(loop_scope="package"),  # one browser serves the tests of all pages
]


async def test_the_overview_is_live(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    async with visit(browser, deployment) as page:
        lane = page.get_by_role("region", name="openrouter")
        await expect(lane).to_contain_text("0 of 10 calls running")
        await expect(page.get_by_text("No request has run in the last hour.")).to_be_visible()

        await upload_slow_job(deployment)

        await expect(lane).to_contain_text("10 of 10 calls running")
        await expect(lane).to_contain_text(re.compile(r"p95\d+ ms"))
        await expect(page.get_by_role("region", name="Workers")).to_contain_text("openrouter 10")
        await expect(page.get_by_text("all 10 slots are in use")).to_be_visible()
        charts = page.get_by_role("img", name=re.compile("^Calls per second"))
        await expect(charts).to_be_visible()
        await expect(page.locator(".connection")).to_have_text("live")
        await expect(page.get_by_role("banner")).to_contain_text(f"Orchestrator {VERSION}")


async def test_a_step_that_has_not_ended_is_not_drawn(stack: Start, browser: Browser) -> None:
    """The rate of the current step is still too low: the chart would show a drop."""
    deployment = await stack(workers=0)
    step = datetime.fromtimestamp(time.time() // 10 * 10, UTC)
    points = [
        {
            "at": (step + timedelta(seconds=seconds)).isoformat(),
            "lanes": {
                "openrouter": {"calls_per_s": rate, "in_flight": 1, "queued": 0, "errors": {}}
            },
        }
        for seconds, rate in ((-40, 7), (-30, 5), (60, 9))
    ]
    history = {"step_s": 10, "points": points}
    async with visit(browser, deployment, "jobs") as page:
        await page.route("**/history", lambda route: route.fulfill(json=history))
        await page.get_by_role("link", name="Overview").click()

        name = (
            # The last steps have no calls, so the rate is 0.
            "Calls per second in the last hour: openrouter now 0.0, peak 7.0"
        )
        chart = page.get_by_role("img", name=name)
        await expect(chart).to_be_visible()


async def test_the_charts_end_with_what_the_cards_show(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=60_000)
    async with visit(browser, deployment) as page:
        await expect(page.get_by_text("No request has run in the last hour.")).to_be_visible()
        await upload(deployment.api, lines(str(n) for n in range(300)))
        lane = page.get_by_role("region", name="openrouter")
        await expect(lane).to_contain_text("10 of 10 calls running")

        # Both are read at one moment: a chart must not need a second more than a card.
        card, charts = await page.evaluate(
            """() => [
                document.querySelector("section[aria-label=openrouter]").textContent,
                [...document.querySelectorAll("figure")].map(figure => figure.textContent),
            ]"""
        )

    assert "Queued290" in card
    assert charts[:3] == [
        "Calls per second nowopenrouter 0.0",
        "Running calls nowopenrouter 10",
        "Requests queued nowopenrouter 290",
    ]


async def test_hovering_over_a_chart_shows_the_values_of_that_time(
    stack: Start, browser: Browser
) -> None:
    deployment = await stack(workers=0)
    step_s = 10
    now = int(time.time()) // step_s * step_s
    point: dict[str, float] = {
        "calls": 70,
        "calls_per_s": 7,
        "in_flight": 3,
        "queued": 42,
        "p95_ms": 1234,
    }
    point |= {"errors_per_s": 0.5}
    points = [
        {"at": datetime.fromtimestamp(at, UTC).isoformat(), "lanes": {"openrouter": point}}
        for at in range(now - 3600, now - 60, step_s)
    ]
    history = {"step_s": step_s, "points": points}
    async with visit(browser, deployment, "jobs") as page:
        await page.route("**/history", lambda route: route.fulfill(json=history))
        await page.get_by_role("link", name="Overview").click()
        charts = page.locator("figure")
        await expect(charts.first).to_have_text("Calls per second nowopenrouter 0.0")

        await charts.first.locator(".u-over").hover()

        shown = [r"openrouter 7\.0", "openrouter 3", "openrouter 42", "openrouter 1,234 ms"]
        for n, text in enumerate([*shown, r"openrouter 0\.5"]):  # all charts show the same moment
            await expect(charts.nth(n)).to_have_text(re.compile(rf"\d\d:\d\d:\d\d{text}$"))
        await page.mouse.move(0, 0)
        await expect(charts.first).to_have_text("Calls per second nowopenrouter 0.0")
