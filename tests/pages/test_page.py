"""Tests the page in a real Chromium, against real processes.

This command takes the README's pictures again:

    CI_DEPTH=full SCREENSHOTS=tests/screenshots pytest tests/pages/test_page.py -k screenshots
"""

import json
import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import (
    Browser,
    Locator,
    Page,
    Route,
    expect,
)
from support.authentication import ANN, API_KEYS, BOB
from support.browser import needs_chromium, visit
from support.claims import claim, commit, settle
from support.jobs import lines, ndjson, upload
from support.nginx import needs_nginx
from support.past_hour import write_past_hour
from support.redis_server import Server
from support.sample_job import UNKNOWN_MODEL, review_provider, review_requests
from support.search_depth import FULL
from support.stack import Stack, Start, chat, eventually
from support.tls_proxy import tls_proxy

from shared.jobs.store import Store
from shared.monitoring.counters import Calls, Counter
from shared.monitoring.reports import Report, ReportWriter
from shared.queue.claims import Queue
from shared.queue.leases import Fault, Settlement
from shared.queue.redis_keys import Keys
from shared.queue.verdict import Verdict
from shared.version import VERSION

SCREENSHOTS = os.environ.get("SCREENSHOTS")  # directory for the README's pictures
NOTICED_MS = 15_000  # the page notices after 3.5 s of silence, on a busy machine some s later

pytestmark = [
    needs_chromium,
    pytest.mark.asyncio(loop_scope="module"),  # one browser serves all tests
]


async def screenshot(page: Page, name: str) -> None:
    if SCREENSHOTS:
        await page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


async def work(stack: Stack, **fields: Any) -> str:
    """Submits a job of 300 requests that runs for some seconds. Returns its location."""
    await stack.simulate(latency_ms=400, latency_spread_ms=300)
    return await upload(stack.api, lines((str(n) for n in range(300)), **fields))


# Views


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(360, "dark"), (360, "light"), (1600, "dark")] if FULL else [(360, "light")],
)
async def test_every_view_is_accessible_and_fits(
    stack: Start, browser: Browser, redis: ArqRedis, keys: Keys, width: int, scheme: str
) -> None:
    deployment = await stack(workers=2)
    await write_past_hour(redis, keys)  # so that the charts appear at once
    models = ["m", "sim-500", "sim-404"]
    await deployment.batch(
        [chat(str(n), model=models[n % 3], provider="ollama") for n in range(30)]
    )
    location = (await work(deployment)).removeprefix("/")
    for path, shown in {
        "": "Last hour",
        "jobs": location.removeprefix("jobs/"),
        location: "answered",
        "try": "Add a model",
    }.items():
        async with visit(browser, deployment, path, width=width, scheme=scheme) as page:
            await expect(page.get_by_text(shown).first).to_be_visible()
            if not path:
                await expect(page.locator("figure canvas").first).to_be_visible()

            found = await Axe().run(page)

            assert found.violations_count == 0, found.generate_report()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_a_phone_shows_the_status_first(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1, key=ANN, API_KEYS=API_KEYS)
    batch = await deployment.batch([chat(str(n), model="sim-404") for n in range(10)])

    async def fits(locator: Locator) -> bool:
        """Returns whether the element is in one line and in the page's width, without scrolling."""
        return bool(
            await locator.evaluate(
                """element => {
                    const { left, right, top, bottom } = element.getBoundingClientRect();
                    const parent = element.closest(".scroll, main, header").getBoundingClientRect();
                    return left >= parent.left && right <= parent.right && bottom - top < 40;
                }"""
            )
        )

    async with visit(browser, deployment, "jobs", width=360) as page:
        await page.get_by_label("API key").fill(ANN)
        await page.keyboard.press("Enter")
        assert await fits(page.locator("td .status"))
        connection = page.locator("header .connection")
        await connection.evaluate("element => { element.textContent = 'Redis unavailable'; }")
        assert await fits(connection)
        assert await page.locator("header").evaluate("header => header.offsetHeight") <= 84
        tops = await page.eval_on_selector_all("nav a", "links => links.map(a => a.offsetTop)")
        assert len({*tops}) == 1
        await page.goto(f"/#/jobs/{batch.json()['job_id']}")
        for tag in ("h1", ".head .status", ".rows .row .tag", ".rows .row .ms"):
            await expect(page.locator(tag).first).to_be_visible()
        assert await fits(page.locator(".head .status"))
        for cell in await page.locator(".rows .row").first.locator("[role=cell]").all():
            assert await fits(cell)


async def break_models(
    redis: ArqRedis, keys: Keys, lane: str, models: list[str], fault: Fault
) -> None:
    """Records the fault of a call to each model."""
    async with Store(redis, keys).staging("broken") as staging:
        for model in models:
            await staging.add(lane, b"", (None, lane, model))
        await commit(staging)
    queue = Queue(redis, keys, lease_s=60)
    leases = await claim(queue, **{lane: len(models)})
    await settle(queue, *(Settlement(lease, "retry", fault=fault) for lease in leases))


@pytest.mark.parametrize("width", [360, 1440])
async def test_many_lanes_and_long_names_fit(
    stack: Start, browser: Browser, redis: ArqRedis, keys: Keys, width: int
) -> None:
    deployment = await stack(workers=1)
    model = "organisation/" + "m" * 243
    lanes = [f"provider-{n:02}" for n in range(30)]
    counts: dict[Counter, int] = {
        Calls(lane, "timeout", model): 10 + n for n, lane in enumerate(lanes)
    }
    lost = Report("host:1:abc", 1.0, dict.fromkeys(lanes, 1), dict.fromkeys(lanes, 10), [])
    await ReportWriter(redis, keys).write(lost, counts)
    exhausted = Fault(Verdict.QUOTA_EXHAUSTED, "answered 402 (no credit)", "payment_required")
    models = [f"{model}-{n}" for n in range(7)]
    await break_models(redis, keys, "provider-00", models, exhausted)
    requests = [chat("x", model=model), chat("x", model="sim-404" + model[7:])]
    job_id = (await deployment.batch(requests)).json()["job_id"]

    async def fits(page: Page) -> bool:
        return bool(await page.evaluate("document.documentElement.scrollWidth") <= width)

    async with visit(browser, deployment, width=width) as page:
        await expect(page.get_by_role("region", name="provider-29")).to_be_visible()
        await expect(page.get_by_text("Idle: ollama.")).to_be_visible()
        unhealthy = page.get_by_role("list", name="Not healthy: provider-00")
        await expect(unhealthy.get_by_role("listitem")).to_have_count(6)
        await expect(unhealthy).to_contain_text("and 2 more")
        errors = page.locator("figure").last
        await expect(errors.locator(".legend > span")).to_have_count(7)
        await expect(errors).to_contain_text("25 others")
        assert await fits(page)
        assert (await Axe().run(page)).violations_count == 0
        await page.goto(f"/#/jobs/{job_id}")
        await page.get_by_role("button", name="Request 0").click()
        await expect(page.get_by_role("dialog")).to_contain_text(model)
        assert await fits(page)
        await page.keyboard.press("Escape")
        await page.goto("/#/try")
        await page.get_by_label("Model 1").fill(model)
        await page.get_by_label("Prompt").fill("Hello?")
        await page.get_by_role("button", name="Send").click()
        await expect(page.get_by_text("echo: Hello?")).to_be_visible()
        assert await fits(page)


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


async def test_the_overview_is_live(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    async with visit(browser, deployment) as page:
        lane = page.get_by_role("region", name="openrouter")
        await expect(lane).to_contain_text("0 of 10 calls running")
        await expect(page.get_by_text("No request has run in the last hour.")).to_be_visible()

        await work(deployment)

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


# Reasons why a job is slow: the page must explain them to a new user within a minute


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
    location = await work(deployment)
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
    location = await work(deployment, model="sim-500")
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
            await page.wait_for_function(COUNTS_AGREE)
            await screenshot(page, "job")
            await page.get_by_role("link", name="Overview").click()
            await expect(page.get_by_text("the provider answered 429").first).to_be_visible()
            await expect(page.locator("figure canvas").first).to_be_visible()
            await screenshot(page, "overview")
            deployment.workers[0].kill()
            await expect(page.get_by_text(" is lost: ").first).to_be_visible()


# Actions on jobs and requests


async def test_cancel_asks_first(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    location = await work(deployment)
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


@needs_nginx
async def test_it_works_below_a_path_prefix(stack: Start, browser: Browser, tmp_path: Path) -> None:
    deployment = await stack(workers=1)
    batch = (await deployment.batch([chat("a"), chat("b", model="sim-404")])).json()
    api = str(deployment.api.base_url).rstrip("/")
    host = "proxy_set_header Host $http_host;"
    location = f"location /llm/ {{ proxy_pass {api}/; proxy_buffering off; {host} }}"
    async with (
        tls_proxy(tmp_path, location) as url,
        await browser.new_context(ignore_https_errors=True) as context,
    ):
        page = await context.new_page()
        await page.goto(f"{url}/llm/#/jobs/{batch['job_id']}")
        await page.get_by_role("button", name="Request 0").click()
        await expect(page.get_by_role("dialog")).to_contain_text("echo: a")
        await page.keyboard.press("Escape")
        async with page.expect_download() as downloading:
            await page.get_by_role("button", name="Download results").click()
        assert (await downloading.value).suggested_filename == f"{batch['job_id']}.ndjson"
        await page.get_by_role("button", name="Retry the failed requests").click()
        await page.get_by_role("button", name="Retry 1").click()
        await expect(page.get_by_text("Retry of job")).to_be_visible()
        await page.get_by_role("link", name="Overview").click()
        await expect(page.locator("figure canvas").first).to_be_visible()
        await page.get_by_role("link", name="Try it").click()
        await page.get_by_label("Model 1").fill("m")
        await page.get_by_label("Prompt").fill("Hello?")
        await page.get_by_role("button", name="Send").click()
        await expect(page.get_by_text("echo: Hello?")).to_be_visible()


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


async def test_it_works_by_keyboard_alone(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    await deployment.batch([chat("hello")])
    async with visit(browser, deployment) as page:
        await expect(page.locator(".connection")).to_have_text("live")
        for _ in range(3):  # the skip link, the link to the overview, the link to the jobs
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        link = page.get_by_role("region", name="Jobs").get_by_role("link")
        await expect(link).to_be_visible()

        async def focused() -> bool:
            await page.keyboard.press("Tab")
            return bool(await link.evaluate("link => link === document.activeElement"))

        await eventually(focused)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Requests")).to_be_visible()
        await page.get_by_role("button", name="Request 0").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_contain_text("echo: hello")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)


# Pages without data, without an API key, without a connection


async def test_empty_states(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    async with visit(browser, deployment, "jobs") as page:
        await expect(page.get_by_text("No jobs yet.")).to_be_visible()
        await page.get_by_label("Status").select_option("running")
        await expect(page.get_by_text("No jobs with this status.")).to_be_visible()
        await page.goto("/#/jobs/nobody")
        await expect(page.get_by_role("alert")).to_contain_text("no such job")


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


# How the page is served


async def test_the_page_is_served_safely(stack: Start) -> None:
    deployment = await stack(workers=0, key=ANN, API_KEYS=API_KEYS)
    async with httpx.AsyncClient(base_url=deployment.api.base_url) as anybody:
        page = await anybody.get("/")
        script = await anybody.get("/static/app.js")
        outside = await anybody.get("/static/%2e%2e/page.py")
        known = {"If-None-Match": script.headers["etag"]}
        again = await anybody.get("/static/app.js", headers=known)

    assert f'<meta name="version" content="{VERSION}">' in page.text
    assert page.headers["content-type"].startswith("text/html")
    assert "javascript" in script.headers["content-type"]
    for answer in (page, script):
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
    assert outside.status_code == httpx.codes.NOT_FOUND
    assert again.status_code == httpx.codes.NOT_MODIFIED


async def test_it_can_be_turned_off(stack: Start) -> None:
    deployment = await stack(workers=0, DASHBOARD="false")
    assert (await deployment.api.get("/")).status_code == 404
    assert (await deployment.api.get("/static/app.js")).status_code == 404
    assert (await deployment.api.get("/overview")).status_code == 200


async def test_the_page_skips_the_empty_lines_of_a_stream(browser: Browser, stack: Start) -> None:
    """The API sends empty lines while it waits for an item."""
    async with visit(browser, await stack(workers=0)) as page:
        found = await page.evaluate(
            """async () => {
                const { lines } = await import("./static/api.js");
                const found = [];
                for await (const batch of lines(new Response('\\n{"a":1}\\n\\n\\n{"a":2}\\n\\n')))
                    found.push(...batch);
                return found;
            }"""
        )

    assert found == [{"a": 1}, {"a": 2}]
