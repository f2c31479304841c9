"""`orchestrator providers` and the check of providers at the start of `orchestrator up`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from support.command import run, up
from support.providers import combined
from support.stack import Start, free_port

from cli.base_url_check import leads_to, running_api
from cli.provider_probe import Probe, ProviderHealth, probe_all
from shared.providers import Provider
from shared.settings import ProviderSettings

KEY = "sk-the-key-0123456789"
GPU1 = Provider("gpu1", "http://unused", key_required=False)
ANSWER = {
    "choices": [{"message": {"role": "assistant", "content": f"hello {KEY}"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Runs a provider at which `handler` answers every request. Yields its base URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def probed(url: str, row: Provider = GPU1, key: str | None = None) -> Probe:
    settings = ProviderSettings(api_key=key, base_url=url)
    [probe] = await probe_all(combined({row.name: row}, {row.name: settings}), [row.name])
    return probe


def with_key(status: int) -> Handler:
    """Returns a handler that lists models for the right key, and below `public` for everybody.

    The handler answers `status` to all other requests.
    """

    async def handle(request: web.Request) -> web.Response:
        is_right = request.headers.get("authorization") == f"Bearer {KEY}"
        is_right = is_right or "public" in request.path
        return web.json_response({"data": []}, status=200 if is_right else status)

    return handle


def always(status: int, body: str = "{}", kind: str = "application/json") -> Handler:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, content_type=kind)

    return handle


@pytest.mark.parametrize(
    ("handler", "key", "health", "detail"),
    [
        (with_key(401), KEY, ProviderHealth.READY, "answers and accepts the key"),
        (with_key(401), "bogus", ProviderHealth.KEY_REFUSED, "answered 401; correct GPU1_API_KEY"),
        (with_key(403), "bogus", ProviderHealth.KEY_REFUSED, "answered 403; correct GPU1_API_KEY"),
        (
            with_key(401),
            None,
            ProviderHealth.KEY_REFUSED,
            "answered 401; it needs a key: set GPU1_API_KEY",
        ),
        (
            always(400, '{"error": {"details": [{"reason": "API_KEY_INVALID"}]}}'),
            "bogus",
            ProviderHealth.KEY_REFUSED,
            "answered 400; correct GPU1_API_KEY",
        ),
        (always(200), None, ProviderHealth.READY, "answers"),
        (always(200), KEY, ProviderHealth.UNCHECKED, "answers even without a key"),
        (
            always(404),
            KEY,
            ProviderHealth.UNCHECKED,
            "has no list of models (404), so the key was not checked",
        ),
        (always(503), KEY, ProviderHealth.FAILING, "answered 503"),
        (always(302), KEY, ProviderHealth.FAILING, "answered 302"),
        (
            always(200, "<html>", "text/html"),
            None,
            ProviderHealth.FAILING,
            "answered with something that is not JSON; check the base URL",
        ),
    ],
)
async def test_the_health_of_a_provider(
    handler: Handler, key: str | None, health: ProviderHealth, detail: str
) -> None:
    async with serving(handler) as url:
        assert await probed(url, key=key) == Probe("gpu1", health, f"{url}/models: {detail}")


async def test_each_key_is_checked() -> None:
    async with serving(with_key(401)) as url:
        settings = ProviderSettings(api_key=KEY, base_url=url, more_api_keys={7: "bogus"})
        [probe] = await probe_all(combined({"gpu1": GPU1}, {"gpu1": settings}), ["gpu1"])

    assert (probe.health, probe.detail.partition(": ")[2]) == (
        ProviderHealth.KEY_REFUSED,
        "answered 401; correct GPU1_API_KEY_7",
    )


async def test_nobody_listens() -> None:
    async with serving(always(200)) as url:
        pass
    probe = await probed(url)

    detail = f"{url}/models: can't connect; start it, or correct GPU1_BASE_URL"
    assert probe == Probe("gpu1", ProviderHealth.UNREACHABLE, detail)


async def test_what_is_missing_needs_no_call() -> None:
    providers = combined({"x": Provider("x", "https://x.test")}, {})

    assert await probe_all(providers, ["x"]) == [
        Probe("x", ProviderHealth.MISSING, "x has no API key: set X_API_KEY for the workers")
    ]


@pytest.mark.parametrize(
    ("row", "path", "header"),
    [
        (GPU1, "/v1/models", "authorization"),
        (Provider("a", "http://unused", check_path="/key"), "/v1/key", "authorization"),
        (Provider("a", "http://unused", "ollama"), "/v1/api/tags", "authorization"),
        (Provider("a", "http://unused", auth="x-api-key"), "/v1/models", "x-api-key"),
    ],
)
async def test_what_is_asked(row: Provider, path: str, header: str) -> None:
    seen: list[tuple[str, str | None]] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get(header)))
        return web.json_response({}, status=200 if header in request.headers else 401)

    async with serving(handle) as url:
        probe = await probed(url, row, KEY)

    assert probe.health is ProviderHealth.READY
    key = f"Bearer {KEY}" if header == "authorization" else KEY
    assert seen == [(path, key), (path, None)]


async def test_the_list(environment: dict[str, str], tmp_path: Path) -> None:
    async with serving(with_key(401)) as url:
        (tmp_path / "providers.toml").write_text(f'[providers.gpu1]\nbase_url = "{url}"\n')
        settings = environment | {
            "PROVIDERS_FILE": "providers.toml",
            "GROQ_BASE_URL": url,
            "GROQ_API_KEY": "bogus",
            "HF_TOKEN": KEY,
            "HUGGINGFACE_BASE_URL": url,
            "OLLAMA_BASE_URL": "http://127.0.0.1:9",
        }
        code, output = await run(settings, "providers", directory=tmp_path)

    assert code == 1  # not all are good
    rows = [line.split() for line in output.splitlines()]
    assert ["groq", "GROQ_BASE_URL", "GROQ_API_KEY", "key", "refused"] in rows
    assert ["huggingface", "HUGGINGFACE_BASE_URL", "HF_TOKEN", "ready"] in rows
    assert ["gpu1", "providers.toml", "none", "key", "refused"] in rows
    assert ["ollama", "OLLAMA_BASE_URL", "none", "unreachable"] in rows
    assert f"groq: {url}/models: answered 401; correct GROQ_API_KEY" in output
    assert "not configured: openrouter, openai, azure," in output
    assert KEY not in output


@pytest.mark.parametrize(
    ("base_url", "host", "port", "expected"),
    [
        ("http://localhost:8000/v1", "127.0.0.1", 8000, True),  # vLLM's default beside the API's
        ("http://127.0.0.1:8000/v1", "0.0.0.0", 8000, True),
        ("http://gpu1:8000/v1", "gpu1", 8000, True),
        ("http://localhost:8001/v1", "127.0.0.1", 8000, False),
        ("http://gpu1:8000/v1", "127.0.0.1", 8000, False),
        ("https://llm.test/v1", "llm.test", 443, True),
    ],
)
def test_a_base_url_that_leads_to_the_api(
    base_url: str, host: str, port: int, *, expected: bool
) -> None:
    assert leads_to(Provider("x", base_url), (host, port)) is expected


async def test_the_orchestrator_is_no_provider_of_itself(
    environment: dict[str, str], stack: Start
) -> None:
    url = str((await stack(workers=0)).api.base_url)
    own = {"ORCHESTRATOR_URL": url, "VLLM_BASE_URL": f"{url}/v1"}
    settings = environment | own | {"OLLAMA_BASE_URL": "http://127.0.0.1:9"}

    code, listed = await run(settings, "providers")
    checked = await run(settings, "providers", "check", "vllm", "--model", "m")

    assert code == 1
    assert ["vllm", "VLLM_BASE_URL", "none", "own", "API"] in [
        line.split() for line in listed.splitlines()
    ]
    advice = f"{url}/v1 is the address of the orchestrator's own API. Set VLLM_BASE_URL"
    assert f"vllm: {advice}" in " ".join(listed.split())
    assert checked[0] == 1
    assert advice in checked[1]


async def test_a_provider_at_the_address_of_no_running_api_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(with_key(401)) as url:
        monkeypatch.setenv("ORCHESTRATOR_URL", url.removesuffix("/v1"))
        row = Provider("vllm", url)

        assert await running_api([row]) is None


async def check(environment: Mapping[str, str], url: str, *argv: str) -> tuple[int, str]:
    settings = dict(environment) | {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": KEY}
    return await run(settings, "providers", "check", *argv)


async def test_a_check_shows_what_was_sent_and_answered(environment: dict[str, str]) -> None:
    async def handle(request: web.Request) -> web.Response:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        body = await request.json()
        assert (request.path, body["model"]) == ("/v1/chat/completions", "GPT-x")
        return web.json_response(ANSWER, headers={"x-request-id": "r1", "Set-Cookie": "secret"})

    async with serving(handle) as url:
        code, output = await check(environment, url, "openai", "--model", "GPT-x")

    assert code == 0
    for line in (
        f"POST {url}/chat/completions",
        "authorization: Bearer …",
        '  "model": "GPT-x",',
        "x-request-id: r1",
        "set-cookie: …",
        '        "content": "hello …"',
        "The provider answered: 'hello …' (3 + 2 tokens)",
    ):
        assert line.lower() in output.lower().splitlines(), (line, output)
    assert KEY not in output
    assert "secret" not in output


@pytest.mark.parametrize(
    ("handler", "verdict"),
    [
        (
            always(401, f'{{"error": {{"message": "bad key {KEY}"}}}}'),
            "The provider refused the call with 401.",
        ),
        (always(200, '{"error": {"code": 402}}'), "The provider reports an error with status 402."),
        (
            always(200, "<html>", "text/html"),
            "The body contains no answer. Check the base URL.",
        ),
    ],
)
async def test_a_check_that_fails(
    environment: dict[str, str], handler: Handler, verdict: str
) -> None:
    async with serving(handler) as url:
        code, output = await check(environment, url, "openai", "--model", "m")

    assert (code, output.splitlines()[-1]) == (1, verdict)
    assert KEY not in output


async def test_a_check_that_cannot_be_made(environment: dict[str, str]) -> None:
    url = "http://127.0.0.1:9/v1"
    unknown, missing, down = await asyncio.gather(
        check(environment, url, "opnai", "--model", "m"),
        check(environment, url, "groq", "--model", "m"),
        check(environment, url, "openai", "--model", "m"),
    )

    assert unknown[0] == missing[0] == down[0] == 1
    assert unknown[1].startswith(
        "orchestrator: no provider is named 'opnai'; did you mean 'openai'"
    )
    assert missing[1] == "orchestrator: groq has no API key: set GROQ_API_KEY for the workers\n"
    assert down[1].splitlines()[-1].startswith("No answer: ")


async def test_up_warns_of_providers_that_do_not_work(environment: dict[str, str]) -> None:
    async with serving(with_key(401)) as url:
        settings = environment | {
            "OPENROUTER_BASE_URL": url,
            "OPENROUTER_API_KEY": "bogus",
            "GROQ_BASE_URL": url,
            "GROQ_API_KEY": KEY,
            "HF_TOKEN": KEY,
            "HUGGINGFACE_BASE_URL": f"{url}/public",
            "OLLAMA_BASE_URL": "http://127.0.0.1:9",
            "VLLM_BASE_URL": f"http://localhost:{(port := free_port())}/v1",
        }
        async with up(settings, "--workers", "1", "--port", str(port)) as deployment:
            lines = {line.split()[0]: line for line in deployment.output.splitlines() if line}

    assert lines["groq"].split() == ["groq", "ready"]
    assert lines["huggingface"].split(maxsplit=1)[1] == "ready; the key was not checked"
    assert lines["openrouter"].split(maxsplit=1)[1] == (
        f"warning: key refused: {url}/key: answered 401; correct OPENROUTER_API_KEY"
    )
    assert lines["vllm"].split(maxsplit=1)[1] == (
        f"warning: own API: http://localhost:{port}/v1 is the address of the orchestrator's own"
        " API. Set VLLM_BASE_URL to the provider's address, or start the API on another port"
        " (orchestrator up --port)."
    )
    assert lines["ollama"].startswith(
        "ollama      warning: unreachable: http://127.0.0.1:9/api/tags: "
    )
