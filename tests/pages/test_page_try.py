"""Tests the view that tries models, in a real Chromium."""

import pytest
from playwright.async_api import Browser, Route, expect
from support.browser import needs_chromium, visit
from support.stack import Start, eventually

pytestmark = [
    needs_chromium,
    pytest.mark.asyncio(loop_scope="package"),  # one browser serves the tests of all pages
]


async def test_a_schema_without_providers_offers_those_in_use(
    stack: Start, browser: Browser
) -> None:
    deployment = await stack(workers=1)

    async def without_names(route: Route) -> None:
        schema = await (await route.fetch()).json()
        schema["components"]["schemas"]["LLMRequest"]["properties"]["provider"].pop("enum", None)
        await route.fulfill(json=schema)

    async with visit(browser, deployment, "jobs") as page:
        await page.route("**/openapi.json", without_names)
        await page.get_by_role("link", name="Try it").first.click()
        await page.get_by_label("Provider 1").select_option("ollama")
        await page.get_by_label("Model 1").fill("llama")
        await page.get_by_label("Prompt").fill("Hello?")
        await page.get_by_role("button", name="Send").click()

        answer = page.get_by_role("region", name="ollama/llama")
        await expect(answer).to_contain_text("echo: Hello?")


async def test_models_are_tried_side_by_side(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1, DISCONNECT_GRACE_SECONDS="3600")
    async with visit(browser, deployment, "try") as page:
        await page.get_by_label("Model 1").fill("sim-latency-60000")
        await page.get_by_role("button", name="Add a model").click()
        await page.get_by_label("Provider 2").select_option("ollama")
        await page.get_by_label("Model 2", exact=True).fill("llama")
        await page.get_by_role("button", name="Add a model").click()
        await page.get_by_label("Model 3", exact=True).fill("sim-404")
        await page.get_by_role("button", name="Add a model").click()
        await page.get_by_label("Model 4", exact=True).fill("gemma")
        await page.get_by_label("Prompt").fill("Hello?")
        await page.get_by_role("button", name="Send").click()

        llama = page.get_by_role("region", name="ollama/llama")
        await expect(llama).to_contain_text("echo: Hello?")
        await expect(llama).to_contain_text("out · 1 call · stop")
        gemma = page.get_by_role("region", name="openrouter/gemma")
        await expect(gemma).to_contain_text("1 in / 2 out · $0.000003 · 1 call · stop")
        missing = page.get_by_role("region", name="openrouter/sim-404")
        await expect(missing).to_contain_text("model_not_found")
        slow = page.get_by_role("region", name="openrouter/sim-latency-60000")
        await expect(slow).to_contain_text("Waiting for the answer")
        await page.get_by_role("button", name="Stop").click()
        await expect(slow).to_contain_text("Stopped. The request is cancelled.")

    async def cancelled() -> bool:
        jobs = (await deployment.api.get("/jobs")).json()["jobs"]
        return bool(jobs[0]["status"] == "cancelled")

    await eventually(cancelled)


async def test_what_takes_longer_than_the_wait_is_a_job(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1, SYNC_WAIT_SECONDS="1")
    async with visit(browser, deployment, "try") as page:
        await page.get_by_label("Model 1").fill("sim-latency-3000")
        await page.get_by_label("Prompt").fill("Hello?")
        await page.get_by_role("button", name="Send").click()

        await page.get_by_role("link", name="the job continues").click()

        await expect(page.locator(".status")).to_have_text("completed")


async def test_a_refusal_is_shown_in_words(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=0)
    async with visit(browser, deployment, "try") as page:
        await page.get_by_label("Model 1").fill(" ")
        await page.get_by_label("Prompt").fill("Hello?")
        await page.get_by_role("button", name="Send").click()

        await expect(page.get_by_role("alert")).to_contain_text("model: String must not be empty")
