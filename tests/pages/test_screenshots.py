"""Takes the pictures of the README.

This command takes them again:

    CI_DEPTH=full SCREENSHOTS=tests/screenshots pytest tests/pages/test_screenshots.py
"""

import os
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from playwright.async_api import Browser, Page, expect
from support.browser import needs_chromium, visit
from support.jobs import ndjson, upload
from support.past_hour import write_past_hour
from support.sample_job import UNKNOWN_MODEL, review_provider, review_requests
from support.search_depth import FULL
from support.stack import Start

from shared.queue.redis_keys import Keys

SCREENSHOTS = os.environ.get("SCREENSHOTS")  # directory for the README's pictures

pytestmark = [
    needs_chromium,
    pytest.mark.asyncio(loop_scope="package"),  # one browser serves the tests of all pages
]


async def screenshot(page: Page, name: str) -> None:
    if SCREENSHOTS:
        await page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


# The page reads the job and its results in two requests, so one number may be a moment older.
COUNTS_AGREE = """() => {
    const [job, results] = [/([\\d,]+) of [\\d,]+ requests have/, /([\\d,]+) of [\\d,]+ finished/]
        .map((count) => document.body.innerText.match(count)?.[1]);
    return job !== undefined && job === results;
}"""


@pytest.mark.skipif(not FULL, reason="only with CI_DEPTH=full")
async def test_screenshots_for_the_readme(
    stack: Start, browser: Browser, redis: ArqRedis, keys: Keys
) -> None:
    """Causes three faults at once: an unknown model, a rate limit and a killed worker.

    The pictures show the first two.
    """
    deployment = await stack(workers=0)
    await write_past_hour(redis, keys)
    async with review_provider() as provider:
        for _ in range(3):
            await deployment.add_worker(**provider.worker_settings)
        await deployment.ready(3)
        location = await upload(deployment.api, ndjson(review_requests(1200)))
        async with visit(browser, deployment, location[1:], width=1440) as page:
            failing = page.get_by_text(f"calls to {UNKNOWN_MODEL} failed in the last minute")
            await expect(failing).to_be_visible()
            provider.rate_limit_s = 30
            await expect(page.get_by_text("the provider answered 429").first).to_be_visible()
            await expect(page.get_by_text("model_not_found").first).to_be_visible()
            agree = False
            while not agree:  # the page may change while the picture is taken
                await page.wait_for_function(COUNTS_AGREE)
                await screenshot(page, "job")
                agree = await page.evaluate(COUNTS_AGREE)
            await page.get_by_role("link", name="Overview").click()
            await expect(page.get_by_text("the provider answered 429").first).to_be_visible()
            await expect(page.locator("figure canvas").first).to_be_visible()
            await screenshot(page, "overview")
            deployment.workers[0].kill()
            await expect(page.get_by_text(" is lost: ").first).to_be_visible()
