"""Tests that the page explains to a new user within a minute why a job is slow."""

import re

import pytest
from playwright.async_api import Browser, expect
from support.browser import needs_chromium, visit
from support.jobs import lines, ndjson, upload, upload_slow_job
from support.stack import Start, chat, eventually

pytestmark = [
    needs_chromium,
    pytest.mark.asyncio(loop_scope="package"),  # one browser serves the tests of all pages
]


async def test_what_is_paused_or_does_not_work_is_named(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(retry_after="120", by_dialect={"ollama": {"outage": {"status": 401}}})
    requests = [
        chat("first", model="sim-429x1"),
        chat("refused", provider="ollama"),
        *(chat(str(n)) for n in range(30)),
    ]
    location = await upload(deployment.api, ndjson(requests))
    async with visit(browser, deployment, location[1:]) as page:
        await expect(page.get_by_text("What this job is waiting for")).to_be_visible()
        notice = page.locator(
            ".notices .warning", has_text="openrouter/sim-429x1 is paused for another 2 min"
        )
        await expect(notice).to_contain_text(
            "the provider answered 429 (too many requests) and asked to wait 120 s"
        )
        error = page.locator(".notices .error", has_text="ollama has not worked for")
        await expect(error).to_contain_text("answered 401 (the key was refused)")
        await expect(error).to_contain_text("Check OLLAMA_API_KEY")
        await page.get_by_role("link", name="Overview").click()
        paused = page.get_by_role("list", name="Not healthy: openrouter")
        await expect(paused).to_have_text(
            re.compile(
                r"^\s*sim-429x1 paused until \d\d:\d\d:\d\d \(for another 1 min \d+ s\): openrouter"
            )
        )
        failing = page.get_by_role("list", name="Not healthy: ollama")
        await expect(failing).to_contain_text("All models not working since")


async def test_a_dead_worker_is_named(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=2)
    location = await upload_slow_job(deployment)
    await deployment.in_flight(10)
    async with visit(browser, deployment, location[1:]) as page:
        await expect(page.get_by_text("What this job is waiting for")).to_be_visible()
        deployment.workers[0].kill()
        notice = page.locator(".notices .warning", has_text=" is lost: ")
        await expect(notice).to_be_visible()
        await page.get_by_role("link", name="Overview").click()
        await expect(page.get_by_role("region", name="Workers").get_by_text("lost")).to_be_visible()


async def test_no_worker_is_named(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=0)
    await upload(deployment.api, lines(["x", "y"]))
    async with visit(browser, deployment) as page:
        notice = page.locator(".notices .error")
        await expect(notice).to_contain_text("No worker is alive: 2 requests are waiting.")
        await expect(page.get_by_text("No workers yet.")).to_be_visible()


async def test_a_failing_model_is_named(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    location = await upload_slow_job(deployment, model="sim-500")
    async with visit(browser, deployment, location[1:]) as page:
        notice = page.locator(
            ".notices .error", has_text="calls to sim-500 failed in the last minute"
        )
        await expect(notice).to_contain_text(re.compile(r"in the last minute: \d+ provider_error"))


async def test_the_reasons_are_those_of_the_job_itself(stack: Start, browser: Browser) -> None:
    """The lane has a long queue and a failing model, both of another job."""
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=200)
    await deployment.batch([chat("x", model="sim-404") for _ in range(10)])
    await upload(deployment.api, lines(str(n) for n in range(3000)))
    location = await upload(deployment.api, lines((str(n) for n in range(600)), model="small"))
    async with visit(browser, deployment) as page:
        # The overview is about all jobs.
        notices = page.get_by_role("list", name="Notices")
        await expect(notices).to_contain_text("calls to sim-404 failed")
        await expect(notices).to_contain_text("the queue will be empty in about")

        await page.goto(f"/#{location}")

        await expect(notices).to_contain_text(
            re.compile(r"openrouter: all 10 slots are in use, \d+ of them by this job\.")
        )
        speed = r"This job's speed is [\d.]+ requests per second: the rest takes about \d+"
        await expect(notices).to_contain_text(re.compile(speed))
        await expect(notices).not_to_contain_text("sim-404")
        await expect(notices).not_to_contain_text("queue")


async def test_requests_that_wait_for_a_retry_are_counted(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=60_000)
    others = await upload(deployment.api, lines(["x"]))
    await deployment.in_flight(1)
    await deployment.simulate(latency_ms=0)
    location = await upload(deployment.api, lines(["a", "b", "c"], model="sim-500"))

    async def retrying() -> int:
        job: dict[str, int] = (await deployment.api.get(location)).json()
        assert job["retrying"] <= job["queued"]
        return job["retrying"]

    async def all_wait() -> bool:
        return await retrying() == 3

    await eventually(all_wait)
    async with visit(browser, deployment, location[1:]) as page:
        await expect(page.get_by_text("of them for a retry.")).to_be_visible()
        await page.goto(f"/#{others}")
        await expect(page.get_by_text("Running: 1. Queued: 0.")).to_be_visible()
        await expect(page.get_by_text("for a retry")).to_have_count(0)
