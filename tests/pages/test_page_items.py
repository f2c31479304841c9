"""Tests the list of a job's items, and the view of one item, in a real Chromium."""

import re
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, expect
from support.browser import needs_chromium, visit
from support.jobs import lines, ndjson, upload
from support.stack import Start, chat

pytestmark = [
    needs_chromium,
    pytest.mark.asyncio(loop_scope="package"),  # one browser serves the tests of all pages
]


async def test_another_choice_of_items_begins_at_the_top(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    requests = [chat(str(n), model="sim-404" if n % 50 == 0 else "m") for n in range(500)]
    location = await upload(deployment.api, ndjson(requests))
    async with visit(browser, deployment, location[1:]) as page:
        rows = page.locator(".rows")
        await expect(page.get_by_text("500 shown, 500 of 500 finished")).to_be_visible()
        for label, choice in (("Order", "slowest"), ("Show", "answered"), ("Show", "failed")):
            await rows.evaluate("rows => rows.scrollTo(0, rows.scrollHeight)")
            await expect(page.locator(".rows .row").last).to_have_attribute("aria-rowindex", "501")

            await page.get_by_label(label).select_option(choice)

            await expect(page.locator(".rows .row").first).to_have_attribute("aria-rowindex", "2")
            assert await rows.evaluate("rows => rows.scrollTop") == 0
            await page.get_by_label("Show").select_option("")
            # The list begins at the top when it shows the choice, so do not scroll it before.
            await expect(page.get_by_text("500 shown")).to_be_visible()
        await page.get_by_label("Show").select_option("failed")
        await expect(page.locator(".rows .row")).to_have_count(10)


async def test_the_waterfall_shows_where_time_went(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1, MAX_CONCURRENT_REQUESTS="1")
    await deployment.simulate(latency_ms=150)
    models = ["m", "sim-500x1", "m"]
    requests = [chat(str(n), model=model) for n, model in enumerate(models)]
    batch = (await deployment.batch(requests)).json()
    async with visit(browser, deployment, f"jobs/{batch['job_id']}") as page:
        await expect(page.locator(".rows .row")).to_have_count(3)
        shares = await bar_shares(page)
        words = await page.locator(".times .hidden").all_text_contents()

    responses = batch["responses"]
    assert [responses[n]["retried_ms"] > 100 for n in range(3)] == [False, True, False]
    waited = [response["queued_ms"] - response["retried_ms"] for response in responses]
    own = [response["retried_ms"] + response["latency_ms"] for response in responses]
    for n, ((queued, retried, called), response) in enumerate(zip(shares, responses, strict=True)):
        assert queued == pytest.approx(waited[n] / max(waited), abs=0.05)
        assert retried == pytest.approx(response["retried_ms"] / max(own), abs=0.05)
        assert called == pytest.approx(response["latency_ms"] / max(own), abs=0.05)
    assert words[2].startswith("queued ")
    assert words[3].startswith("retrying ")


async def bar_shares(page: Page) -> list[list[float]]:
    """Returns the lengths of each row's bars: queued, retrying, call. 1 is a full bar."""
    shares: list[list[float]] = await page.eval_on_selector_all(
        ".rows .row",
        """rows => {
            const width = element => element.getBoundingClientRect().width;
            const share = part => width(part) / width(part.parentElement);
            return rows.map(row => [...row.querySelectorAll("i")].map(share));
        }""",
    )
    return shares


async def test_the_bars_of_a_large_job_can_be_compared(stack: Start, browser: Browser) -> None:
    """The time in the queue is much longer than the calls, and one call is much slower."""
    deployment = await stack(workers=1, MAX_CONCURRENT_REQUESTS="50")
    await deployment.simulate(latency_ms=20, latency_spread_ms=20)
    models = ["sim-latency-3000", *["m"] * 4999]
    location = await upload(deployment.api, ndjson([chat("x", model=model) for model in models]))
    async with visit(browser, deployment, location[1:]) as page:
        shown = page.get_by_text("5,000 shown, 5,000 of 5,000 finished")
        await expect(shown).to_be_visible(timeout=180_000)
        for end in ("0", "rows.scrollHeight"):
            await page.locator(".rows").evaluate(f"rows => rows.scrollTo(0, {end})")
            last = "1" if end == "0" else "4999"
            await expect(
                page.get_by_role("button", name=f"Request {last}", exact=True)
            ).to_be_visible()

            called = [share for *_, share in await bar_shares(page)]

            assert sorted(called)[len(called) // 2] > 0.03  # 20 of 3000 ms are 0.007
        numbers = await page.locator(".rows .row").last.locator(".ms").all_text_contents()
        assert all(re.fullmatch(r"[\d,]+ ms|\d+ s", number) for number in numbers)


async def test_slowest_first_leaves_out_the_time_in_the_queue(
    stack: Start, browser: Browser
) -> None:
    deployment = await stack(workers=1, MAX_CONCURRENT_REQUESTS="1")
    await deployment.simulate(latency_ms=100)
    models = ["m", "sim-latency-900", "m", "sim-500x1", "m", "m", "m", "m", "m", "m"]
    batch = await deployment.batch([chat("x", model=model) for model in models])
    own = [item["retried_ms"] + item["latency_ms"] for item in batch.json()["responses"]]
    async with visit(browser, deployment, f"jobs/{batch.json()['job_id']}") as page:
        await page.get_by_label("Order").select_option("slowest first")

        slowest_first = sorted(range(10), key=lambda n: -own[n])
        await expect(page.locator(".rows button")).to_have_text(
            [re.compile(rf"^{number}\b") for number in slowest_first]
        )

    assert slowest_first[0] in {1, 3}


async def test_the_list_shows_ids_errors_tokens_and_cost(stack: Start, browser: Browser) -> None:
    deployment = await stack(workers=1)
    requests = [
        chat("a", request_id="review-0001"),
        chat("b", request_id="review-0002", model="sim-404"),
        chat("c"),
    ]
    job_id = (await deployment.batch(requests)).json()["job_id"]
    async with visit(browser, deployment, f"jobs/{job_id}") as page:
        rows = page.locator(".rows .row")
        await expect(rows.nth(0)).to_contain_text("review-0001")
        await expect(rows.nth(0)).to_contain_text("1 in / 2 out$0.000003")
        await expect(rows.nth(1)).to_contain_text("review-0002")
        await expect(rows.nth(1)).to_contain_text("model_not_found openrouter answered 404")
        await expect(rows.nth(2).get_by_role("button")).to_have_text("2")
        await expect(page.get_by_text("Tokens: 2 in / 4 out. Cost: $0.000006")).to_be_visible()


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"content": "text", "message": {"content": "text"}}, "text"),
        (
            {
                "content": "",
                "message": {
                    "content": None,
                    "tool_calls": [{"function": {"name": "weather", "arguments": '{"in":"Rome"}'}}],
                },
            },
            'weather({"in":"Rome"})',
        ),
        ({"content": "", "message": {"content": "", "refusal": "No."}}, "Refused: No."),
        (
            {"content": "a", "choices": [{"message": {"content": c}} for c in "ab"]},
            "Choice 1:\na\n\nChoice 2:\nb",
        ),
        ({"content": "", "body": {"data": [1]}}, '{\n  "data": [\n    1\n  ]\n}'),
        ({"content": ""}, ""),
    ],
)
async def test_an_answer_without_text_is_readable(
    stack: Start, browser: Browser, fields: dict[str, Any], shown: str
) -> None:
    deployment = await stack(workers=1)
    job_id = (await deployment.batch([chat("x")])).json()["job_id"]

    async def answer(route: Route) -> None:
        item = await (await route.fetch()).json()
        await route.fulfill(json=item | fields)

    async with visit(browser, deployment, f"jobs/{job_id}") as page:
        await page.route("**/results?after=0&limit=1&follow=false", answer)
        await page.get_by_role("button", name="Request 0").click()
        answered = page.locator("dialog pre")
        await expect(answered).to_be_attached()

        assert await answered.text_content() == shown


async def test_a_hundred_thousand_rows_are_a_few_in_the_page(
    stack: Start, browser: Browser
) -> None:
    deployment = await stack(workers=0)
    location = await upload(deployment.api, lines("x" for _ in range(100_000)))
    await deployment.api.delete(location)
    async with visit(browser, deployment, location[1:]) as page:
        shown = page.get_by_text("100,000 shown, 100,000 of 100,000 finished")
        await expect(shown).to_be_visible(timeout=180_000)
        await page.locator(".rows").evaluate("rows => rows.scrollTo(0, rows.scrollHeight)")
        await expect(page.get_by_role("button", name="Request 99999")).to_be_visible()

        assert await page.locator(".rows .row").count() < 100
        await page.get_by_label("Show").select_option("answered")
        await expect(page.get_by_text("No requests match.")).to_be_visible()
