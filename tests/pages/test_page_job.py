"""Tests the view of a job, and what a user does with a job, in a real Chromium."""

import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from support.authentication import ANN, API_KEYS
from support.browser import needs_chromium, visit
from support.jobs import upload_slow_job
from support.stack import Start, chat

pytestmark = [
    needs_chromium,
    pytest.mark.asyncio(loop_scope="package"),  # one browser serves the tests of all pages
]


async def test_a_job_is_live_and_its_items_are_there(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=100)
    requests = [chat(str(n), model="sim-404" if n == 7 else "m") for n in range(40)]
    accepted = await deployment.batch(requests, params={"mode": "async"})
    async with visit(browser, deployment, accepted.headers["location"][1:]) as page:
        await expect(page.locator(".status")).to_have_text("completed, 1 failed")
        why = page.get_by_role("list", name="Why requests failed")
        await expect(why).to_contain_text(
            "1 failed: openrouter/sim-404, model not found (for example:"
        )
        bar = page.get_by_role("progressbar", name="40 of 40 finished, 1 failed")
        await expect(bar).to_be_visible()
        await expect(page.locator(".rows .row").first).to_contain_text("answered")

        await page.get_by_label("Show").select_option("model_not_found")

        await expect(page.locator(".rows .row")).to_have_count(1)
        await page.get_by_role("button", name="Request 7").click()
        await expect(page.get_by_role("dialog")).to_contain_text("openrouter answered 404")
        await page.keyboard.press("Escape")
        await page.get_by_label("Show").select_option("answered")
        await page.get_by_role("button", name="Request 3", exact=True).click()
        await expect(page.get_by_role("dialog")).to_contain_text("echo: 3")


async def test_an_unknown_job_is_said_to_be_one(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=0)
    async with visit(browser, deployment, "jobs/gone") as page:
        await expect(page.get_by_role("alert")).to_contain_text("no such job")
        await expect(page.get_by_role("button", name="Try again")).to_have_count(0)
        await expect(page.get_by_role("link", name="All jobs")).to_be_visible()


async def test_cancel_asks_first(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    location = await upload_slow_job(deployment)
    async with visit(browser, deployment, location[1:]) as page:
        background = "button => getComputedStyle(button).backgroundColor"
        button = page.get_by_role("button", name="Cancel the job")
        assert await button.evaluate(background) == "rgba(0, 0, 0, 0)"  # red only in the question
        await button.click()
        danger = page.get_by_role("button", name="Cancel job")
        assert await danger.evaluate(background) == "rgb(176, 42, 55)"
        await page.get_by_role("button", name="Do not cancel").click()
        assert (await deployment.api.get(location)).json()["finished_at"] is None

        await page.get_by_role("button", name="Cancel the job").click()
        await page.get_by_role("button", name="Cancel job").click()

        await expect(page.locator(".status")).to_have_text("cancelled")
        await expect(page.get_by_role("region", name="Progress")).to_contain_text(
            re.compile(r"Failed0Cancelled\d+")
        )
    assert (await deployment.api.get(location)).json()["status"] == "cancelled"


async def test_retry_makes_a_job_of_the_failed(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    batch = await deployment.batch([chat("a"), chat("b", model="sim-404")])
    job_id = batch.json()["job_id"]
    async with visit(browser, deployment, f"jobs/{job_id}") as page:
        await page.get_by_role("button", name="Retry the failed requests").click()
        await page.get_by_role("button", name="Retry 1").click()

        await expect(page.get_by_text("Retry of")).to_be_visible()
        await expect(page.locator(".status")).to_have_text("completed, 1 failed")
    retried_as = (await deployment.api.get(f"/jobs/{job_id}")).json()["retried_as"]
    assert (await deployment.api.get(f"/jobs/{retried_as}")).json()["total_requests"] == 1


async def test_results_are_downloaded(stack: Start, browser: Browser, tmp_path: Path) -> None:
    deployment = await stack(workers=1, key=ANN, API_KEYS=API_KEYS)
    batch = (await deployment.batch([chat("a"), chat("b")])).json()
    async with visit(browser, deployment, f"jobs/{batch['job_id']}") as page:
        await page.get_by_label("API key").fill(ANN)
        await page.keyboard.press("Enter")
        async with page.expect_download() as downloading:
            await page.get_by_role("button", name="Download results").click()
        await (await downloading.value).save_as(tmp_path / "results")

    items = [json.loads(line) for line in (tmp_path / "results").read_text().splitlines()]
    assert [item["content"] for item in items] == ["echo: a", "echo: b"]
