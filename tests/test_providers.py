"""Tests that a provider needs only a row: its headers, settings and simulation follow from it."""

from dataclasses import replace

import httpx
import pytest
from support.in_process import running_api, running_worker

from cli.simulator import Simulator
from cli.simulator import dialects as simulated
from cli.simulator.environment import simulated_environment
from shared.dialects.dialects import DIALECTS
from shared.providers import PROVIDERS, Provider, variable
from shared.settings import ProviderSettings, Settings, load_provider_settings
from worker.providers.client import call, http_client
from worker.providers.endpoint import endpoint

THIRD = Provider(
    "third-one", "https://api.third.test/openai/v1", "openai", headers={"X-Third": "a header"}
)
OPENROUTER, OLLAMA = PROVIDERS["openrouter"], PROVIDERS["ollama"]
REFERER = "http://here"
SENT_ALWAYS = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
    "Content-Type": "application/json",
    "User-Agent": "llm-batch-orchestrator",
}
OPENROUTERS_OWN = {"HTTP-Referer": REFERER, "X-Title": "LLM batch orchestrator"}


@pytest.fixture
def third(monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setitem(PROVIDERS, THIRD.name, THIRD)
    return THIRD


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=list(PROVIDERS))
def test_the_dialect_of_a_row_exists_and_is_simulated(row: Provider) -> None:
    assert DIALECTS[row.dialect].native.path == simulated.DIALECTS[row.dialect].path


@pytest.mark.parametrize(
    ("row", "key", "headers"),
    [
        (OPENROUTER, "k", {**OPENROUTERS_OWN, "Authorization": "Bearer k"}),
        (replace(OPENROUTER, key_required=False), None, OPENROUTERS_OWN),
        (OLLAMA, "k", {"Authorization": "Bearer k"}),
        (OLLAMA, None, {}),
        (THIRD, "k", {"X-Third": "a header", "Authorization": "Bearer k"}),
    ],
)
def test_headers(row: Provider, key: str | None, headers: dict[str, str]) -> None:
    found = endpoint(row, ProviderSettings(_env_file=None, api_key=key, http_referer=REFERER))

    assert found is not None
    assert found.headers == httpx.Headers(SENT_ALWAYS | headers)


@pytest.mark.parametrize(
    ("provider", "setting", "name"),
    [
        ("openrouter", "api_key", "OPENROUTER_API_KEY"),
        ("ollama", "max_concurrent_requests", "OLLAMA_MAX_CONCURRENT_REQUESTS"),
        ("third-one", "base_url", "THIRD_ONE_BASE_URL"),
    ],
)
def test_variable(provider: str, setting: str, name: str) -> None:
    assert variable(provider, setting) == name


async def test_a_call_to_a_third_provider(simulator: Simulator) -> None:
    settings = ProviderSettings(_env_file=None, api_key="k", base_url=f"{simulator.url}/openai/v1")
    found = endpoint(THIRD, settings)
    assert found is not None

    async with http_client(max_connections=1) as client:
        completion = await call(
            client,
            found,
            {
                "provider": THIRD.name,
                "model": "m",
                "chat": {"messages": [{"role": "user", "content": "hello"}]},
            },
            timeout_s=5,
        )

    assert completion.content == "echo: hello"
    [(dialect, last)] = simulator.last().items()
    assert dialect == "openai"
    assert last["headers"]["x-third"] == "a header"
    assert last["headers"]["authorization"] == "Bearer k"
    assert not {"x-title", "http-referer"} & last["headers"].keys()


async def test_a_batch_for_a_third_provider(
    third: Provider,
    simulator: Simulator,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch is accepted and answered, although only the provider's row was added."""
    for name, value in simulated_environment(simulator.url).items():
        monkeypatch.setenv(name, value)
    request = {
        "provider": third.name,
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
    }
    async with running_api(settings) as api, running_worker(settings, load_provider_settings()):
        answer = await api.post("/batch", json={"requests": [request]})

    [response] = answer.json()["responses"]
    assert (response["provider"], response["content"]) == (third.name, "echo: hello")
    assert simulator.last()["openai"]["headers"]["x-third"] == "a header"


@pytest.mark.usefixtures("third")
def test_simulating_leaves_no_provider_at_the_real_api(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROVIDERS:
        monkeypatch.setenv(variable(name, "base_url"), "https://real.test/v1")
        monkeypatch.setenv(variable(name, "api_key"), "a real key")
    for name, value in simulated_environment("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)

    found = [
        endpoint(PROVIDERS[name], settings) for name, settings in load_provider_settings().items()
    ]

    assert [str(there.url(there.dialect.native, "m")) for there in found if there] == [
        "http://127.0.0.1:9/api/v1/chat/completions",
        "http://127.0.0.1:9/api/chat",
        "http://127.0.0.1:9/openai/v1/chat/completions",
    ]
    assert {there.key for there in found if there} == {"simulated"}


def test_a_dialect_that_is_not_simulated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise calls to the provider with this dialect would reach the real API."""
    monkeypatch.setitem(PROVIDERS, "odd", Provider("odd", "https://odd.test", "odd"))

    with pytest.raises(ValueError, match=r"does not support the dialect odd, which odd uses"):
        simulated_environment("http://127.0.0.1:9")
