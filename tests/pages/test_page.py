"""Tests the whole page in a real Chromium, against real processes."""

from pathlib import Path

import httpx
import pytest
from arq.connections import ArqRedis
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Locator, Page, expect
from support.authentication import ANN, API_KEYS
from support.browser import needs_chromium, visit
from support.claims import claim, commit, settle
from support.jobs import upload_slow_job
from support.nginx import needs_nginx
from support.past_hour import write_past_hour
from support.search_depth import FULL
from support.stack import Start, chat, eventually
from support.tls_proxy import tls_proxy

from shared.jobs.store import Store
from shared.monitoring.counters import Calls, Counter
from shared.monitoring.reports import Report, ReportWriter
from shared.queue.claims import Queue
from shared.queue.leases import Fault, Settlement
from shared.queue.redis_keys import Keys
from shared.queue.verdict import Verdict
from shared.version import VERSION

pytestmark = [
    needs_chromium,
    pytest.mark.asyncio(loop_scope="package"),  # one browser serves the tests of all pages
]


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
    location = (await upload_slow_job(deployment)).removeprefix("/")
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


async def test_empty_states(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    async with visit(browser, deployment, "jobs") as page:
        await expect(page.get_by_text("No jobs yet.")).to_be_visible()
        await page.get_by_label("Status").select_option("running")
        await expect(page.get_by_text("No jobs with this status.")).to_be_visible()
        await page.goto("/#/jobs/nobody")
        await expect(page.get_by_role("alert")).to_contain_text("no such job")


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
