"""Tests that the pages load only what this server has, and that no other page can frame them."""

import pytest
from playwright.async_api import Route
from support.authentication import API_KEYS
from support.browser import needs_chromium, open_browser, opened
from support.in_process import running_api
from support.stack import Start

from shared.settings import Settings, load_settings


@needs_chromium
async def test_no_page_can_be_framed_or_loads_anything_from_another_host(stack: Start) -> None:
    deployment = await stack(workers=0)
    root = f"http://127.0.0.1:{deployment.api.base_url.port}"

    async def serve(route: Route) -> None:
        await route.fulfill(content_type="text/html", body="<title>win a prize</title>")

    async with open_browser() as browser:
        attacker = await browser.new_page()
        await attacker.route("**/prize", serve)
        await attacker.goto("http://evil.example:1/prize")
        for path in ("/", "/docs", "/docs/", "/static/app.js"):
            headers = (await deployment.api.get(path)).headers
            await attacker.set_content(f'<iframe src="{root}{path}"></iframe>')
            frame = attacker.frames[1]
            await frame.wait_for_load_state()

            assert frame.url == "chrome-error://chromewebdata/", path
            assert headers["x-frame-options"] == "DENY"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
        async with opened(browser, root, f"{root}/docs") as page:
            await page.get_by_text("Batches", exact=True).first.wait_for()


async def test_the_docs_are_served_safely(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEYS", API_KEYS)
    settings = settings.model_copy(update={"api_keys": load_settings().api_keys})
    async with running_api(settings) as anybody:
        page = await anybody.get("/docs")
        script = await anybody.get("/docs/docs.js")
        outside = await anybody.get("/docs/%2e%2e/docs_page.py")
        schema = await anybody.get("/openapi.json")
        framework = [await anybody.get(path) for path in ("/redoc", "/docs/oauth2-redirect")]

    for answer in (page, script):
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "http" not in page.text
    assert outside.status_code == 404
    assert schema.status_code == 200
    assert [answer.status_code for answer in framework] == [401, 404]
