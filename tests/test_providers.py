"""Tests that a provider needs only a row: its headers, settings and simulation follow from it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from support.providers import combined, endpoint_of

from cli.simulator import Simulator
from cli.simulator.dialects import dialect_at
from cli.simulator.environment import simulated_environment
from shared.dialects.dialects import DIALECTS
from shared.providers import PROVIDERS, Provider, variable
from shared.settings import ProviderSettings, Settings, SettingsError
from shared.settings.providers import load_providers
from worker.providers.client import call
from worker.providers.connections import http_client
from worker.providers.endpoint import endpoint

THIRD = Provider(
    "third-one", "https://api.third.test/openai/v1", "openai", headers={"X-Third": "a header"}
)
ROWS = {**PROVIDERS, THIRD.name: THIRD}
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
NAMES = """
    openai azure anthropic gemini mistral groq together fireworks deepinfra deepseek xai cerebras
    perplexity cohere openrouter huggingface nvidia vllm sglang llamacpp lmstudio ollama
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides the shell's variables and any `.env`."""
    for row in PROVIDERS.values():
        for name in (*row.key_variables, *(variable(row.name, s) for s in SETTINGS)):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


SETTINGS = ("base_url", "max_concurrent_requests", "timeout")


def test_the_built_in_providers() -> None:
    assert sorted(PROVIDERS) == sorted(NAMES.split())
    assert {name: row.name for name, row in PROVIDERS.items()} == {n: n for n in PROVIDERS}


def test_the_first_two_providers_behave_as_ever() -> None:
    assert {
        name: (row.model_name("Org/Model"), row.fills_defaults, row.timeout_s)
        for name, row in PROVIDERS.items()
        if row.model_case == "lower" or row.fills_defaults
    } == {"openrouter": ("org/model", True, None), "ollama": ("org/model", True, None)}


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=PROVIDERS)
def test_every_call_of_a_row_is_simulated(row: Provider) -> None:
    dialect = DIALECTS[row.dialect]

    for codec in (dialect.native, *dialect.foreign.values()):
        assert dialect_at(codec.path)


@pytest.mark.parametrize(
    ("row", "key", "headers"),
    [
        (OPENROUTER, "k", {**OPENROUTERS_OWN, "Authorization": "Bearer k"}),
        (replace(OPENROUTER, key_required=False), None, OPENROUTERS_OWN),
        (OLLAMA, "k", {"Authorization": "Bearer k"}),
        (OLLAMA, None, {}),
        (THIRD, "k", {"X-Third": "a header", "Authorization": "Bearer k"}),
        (PROVIDERS["azure"], "k", {"api-key": "k"}),
        (replace(THIRD, auth="none"), "k", {"X-Third": "a header"}),
        (replace(THIRD, headers={"user-agent": "mine"}, auth="none"), "k", {"User-Agent": "mine"}),
    ],
)
def test_headers(row: Provider, key: str | None, headers: dict[str, str]) -> None:
    found = endpoint_of(row, ProviderSettings(api_key=key, http_referer=REFERER))

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


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"HUGGINGFACE_API_KEY": "own"}, "own"),
        ({"HF_TOKEN": "second"}, "second"),
        ({"HUGGINGFACE_API_KEY": "own", "HF_TOKEN": "second"}, "own"),
        ({"HUGGINGFACE_API_KEY": " ", "HF_TOKEN": "second"}, "second"),
        ({}, None),
    ],
)
def test_a_key_with_two_names(
    monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], key: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert load_providers(no_file()).settings["huggingface"].key == key


def test_a_wrong_key_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret\nvalue")

    with pytest.raises(SettingsError) as caught:
        load_providers(no_file())

    assert str(caught.value) == "HF_TOKEN: must contain only printable ASCII characters"


@pytest.mark.parametrize(
    ("variables", "configured"),
    [
        ({}, set()),
        ({"OPENAI_API_KEY": "k"}, {"openai"}),
        ({"OPENAI_API_KEY": " "}, set()),
        ({"OPENAI_BASE_URL": "http://proxy/v1"}, {"openai"}),
        ({"VLLM_BASE_URL": "http://gpu1:8000/v1"}, {"vllm"}),
        ({"AZURE_API_KEY": "k"}, set()),
        ({"AZURE_BASE_URL": "https://r.openai.azure.com/openai/v1"}, {"azure"}),
        ({"OPENAI_TIMEOUT": "3"}, set()),
        ({"GOOGLE_API_KEY": "k", "CO_API_KEY": "k"}, {"gemini", "cohere"}),
    ],
)
def test_configured(
    monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], configured: set[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert load_providers(no_file()).catalogue.configured == {"ollama", *configured}


@pytest.mark.parametrize(
    ("provider", "settings", "reason"),
    [
        ("openrouter", {}, "has no API key: set OPENROUTER_API_KEY for the workers"),
        (
            "openrouter",
            {"base_url": "http://x"},
            "has no API key: set OPENROUTER_API_KEY for the workers",
        ),
        ("openrouter", {"api_key": "k"}, None),
        ("ollama", {}, None),
        ("vllm", {}, "is not configured: set VLLM_BASE_URL for the workers"),
        ("vllm", {"base_url": "http://x"}, None),
        ("azure", {}, "has no base URL: set AZURE_BASE_URL and AZURE_API_KEY for the workers"),
        (
            "azure",
            {"api_key": "k"},
            "has no base URL: set AZURE_BASE_URL and AZURE_API_KEY for the workers",
        ),
        ("azure", {"base_url": "http://x"}, "has no API key: set AZURE_API_KEY for the workers"),
    ],
)
def test_what_is_missing(provider: str, settings: dict[str, str], reason: str | None) -> None:
    given = {provider: ProviderSettings.model_validate(settings)}

    missing = combined(PROVIDERS, given).missing().get(provider)

    assert missing == (reason and f"{provider} {reason}")


@pytest.mark.parametrize(
    ("general", "variables", "timeouts"),
    [
        ({}, {}, {"ollama": 30, "vllm": 600, "gpu1": 30, "groq": 7}),
        ({"request_timeout": 30}, {}, {"ollama": 30, "vllm": 30, "gpu1": 30, "groq": 7}),
        ({"request_timeout": 50}, {}, {"ollama": 50, "vllm": 50, "gpu1": 50, "groq": 7}),
        (
            {"request_timeout": 50},
            {"VLLM_TIMEOUT": "40", "GROQ_TIMEOUT": "41"},
            {"ollama": 50, "vllm": 40, "gpu1": 50, "groq": 41},
        ),
    ],
)
def test_the_order_of_time_outs(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    general: Mapping[str, float],
    variables: Mapping[str, str],
    timeouts: Mapping[str, float],
) -> None:
    """The variable beats the file; the file beats a general setting; that beats the row."""
    (tmp_path / "providers.toml").write_text(
        '[providers.groq]\ntimeout_s = 7\n[providers.gpu1]\nbase_url = "http://gpu1"\n'
    )
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = no_file(**general, providers_file=tmp_path / "providers.toml")

    providers = load_providers(settings)

    assert {
        name: endpoint(
            providers.catalogue.rows[name],
            providers.settings[name],
            timeout_s=settings.request_timeout,
        ).timeout_s
        for name in timeouts
    } == timeouts


def test_the_default_provider_must_exist() -> None:
    with pytest.raises(SettingsError) as caught:
        load_providers(no_file(default_provider="opnai"))

    assert str(caught.value) == "DEFAULT_PROVIDER: must be the name of a provider, such as openai"


async def test_a_call_to_a_third_provider(simulator: Simulator) -> None:
    settings = ProviderSettings(api_key="k", base_url=f"{simulator.url}/openai/v1")

    async with http_client(max_connections=1) as client:
        answer = await call(
            client,
            endpoint_of(THIRD, settings),
            {
                "provider": THIRD.name,
                "model": "m",
                "chat": {
                    "messages": [{"role": "user", "content": "hello"}],
                    "temperature": 0.5,
                    "max_tokens": 7,
                },
            },
            timeout_s=5,
        )

    assert answer.content == "echo: hello"
    [(dialect, last)] = simulator.last().items()
    assert dialect == "openai"
    assert last["headers"]["x-third"] == "a header"
    assert last["headers"]["authorization"] == "Bearer k"
    assert not {"x-title", "http-referer"} & last["headers"].keys()


async def test_a_call_to_a_provider_of_the_file(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the file and the variable with the key make the call what it is."""
    path = tmp_path / "providers.toml"
    path.write_text(
        f"""
        [providers.my-proxy]
        base_url = "{simulator.url}/openai/v1"
        api_key_env = "PROXY_KEY"
        auth = "X-Proxy-Key"
        headers = {{ X-Team = "research" }}
        token_limit_param = "max_completion_tokens"
        unsupported = ["seed"]
        """
    )
    monkeypatch.setenv("PROXY_KEY", "k")
    providers = load_providers(no_file(providers_file=path))
    there = endpoint(
        providers.catalogue.rows["my-proxy"], providers.settings["my-proxy"], timeout_s=5
    )
    chat = {"messages": [{"role": "user", "content": "hello"}], "seed": 1, "max_tokens": 7}

    async with http_client(max_connections=1) as client:
        answer = await call(
            client, there, {"provider": "my-proxy", "model": "Org/M", "chat": chat}, timeout_s=5
        )

    assert answer.content == "echo: hello"
    [(dialect, last)] = simulator.last().items()
    assert dialect == "openai"
    del chat["seed"], chat["max_tokens"]
    assert last["body"] == {"model": "Org/M", **chat, "max_completion_tokens": 7}
    assert (last["headers"]["x-team"], last["headers"]["x-proxy-key"]) == ("research", "k")
    assert "authorization" not in last["headers"]


def test_simulating_leaves_no_provider_at_the_real_api(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in ROWS.values():
        monkeypatch.setenv(variable(row.name, "base_url"), "https://real.test/v1")
        for name in row.key_variables:
            monkeypatch.setenv(name, "a real key")
    for name, value in simulated_environment("http://127.0.0.1:9", ROWS).items():
        monkeypatch.setenv(name, value)

    providers = load_providers(no_file())

    rows, settings = providers.catalogue.rows.values(), providers.settings.values()
    assert {httpx.URL(row.base_url).netloc for row in rows} == {b"127.0.0.1:9"}
    assert {there.key for there in settings} == {"simulated"}
    assert not providers.missing()
    assert providers.catalogue.rows["openrouter"].base_url == "http://127.0.0.1:9/api/v1"


def no_file(**settings: object) -> Settings:
    return Settings(_env_file=None, **settings)  # type: ignore[arg-type]
