"""Which provider and which model a foreign request is for, as one table."""

import pytest

from shared.providers.catalogue import Alias, Catalogue, Deployment
from shared.providers.provider_row import Provider
from shared.providers.routing import (
    NoProvider,
    UnknownProvider,
    find_provider,
    route,
    unknown_provider_message,
)

_NAMES = ("openai", "openrouter", "ollama", "groq", "gpu-1")
CATALOGUE = Catalogue(
    {name: Provider(name, f"https://{name}.test/v1") for name in _NAMES},
    aliases={
        "fast": Alias((Deployment("gpu-1", "Qwen/Qwen3-8B"),)),
        "gpt-4o": Alias((Deployment("openrouter", "openai/gpt-x"),)),
    },
    configured=frozenset({"openai", "openrouter", "gpu-1"}),
)


@pytest.mark.parametrize(
    ("model", "provider", "default", "target"),
    [
        # The provider beside the request gets the whole name, whatever the name contains.
        ("gpt-5", "openai", None, ("openai", "gpt-5")),
        ("openrouter/x", "openai", "gpu-1", ("openai", "openrouter/x")),
        ("fast", "openai", None, ("openai", "fast")),
        ("gpt-5", "groq", None, ("groq", "gpt-5")),  # its items finish as provider_not_configured
        # An alias is the whole name.
        ("fast", None, None, ("gpu-1", "Qwen/Qwen3-8B")),
        ("FAST", None, "openai", ("gpu-1", "Qwen/Qwen3-8B")),
        ("gpt-4o", None, "openai", ("openrouter", "openai/gpt-x")),
        ("fast/x", None, "openai", ("openai", "fast/x")),
        # The first segment names a configured provider, and is removed once.
        ("openai/gpt-5", None, None, ("openai", "gpt-5")),
        ("openrouter/openai/gpt-x", None, None, ("openrouter", "openai/gpt-x")),
        ("openai/openai/gpt-oss", None, "gpu-1", ("openai", "openai/gpt-oss")),
        ("gpu-1/Org/Model", None, None, ("gpu-1", "Org/Model")),
        # Everything else goes to the default provider, with the whole name.
        ("gpt-5", None, "openai", ("openai", "gpt-5")),
        ("groq/llama", None, "openrouter", ("openrouter", "groq/llama")),  # groq has no key
        ("mistralai/m", None, "openrouter", ("openrouter", "mistralai/m")),
        ("OpenAI/gpt-5", None, "gpu-1", ("gpu-1", "OpenAI/gpt-5")),  # an organisation's name
        ("openai/", None, "gpu-1", ("gpu-1", "openai/")),
        ("openai", None, "gpu-1", ("gpu-1", "openai")),
        ("/openai/x", None, "gpu-1", ("gpu-1", "/openai/x")),
    ],
)
def test_the_target_of_a_request(
    model: str, provider: str | None, default: str | None, target: tuple[str, str]
) -> None:
    found = route(CATALOGUE, model, provider=provider, default_provider=default)

    assert (found.provider.name, found.model) == target


@pytest.mark.parametrize(
    ("model", "unconfigured"),
    [("gpt-5", None), ("unknown/gpt-5", None), ("groq/llama", "groq"), ("", None)],
)
def test_a_model_without_a_provider(model: str, unconfigured: str | None) -> None:
    with pytest.raises(NoProvider) as caught:
        route(CATALOGUE, model, provider=None, default_provider=None)

    assert (caught.value.model, caught.value.unconfigured) == (model, unconfigured)
    text = str(caught.value)
    assert f"'{model}'" in text
    for remedy in ("?provider=", "[models.NAME]", "DEFAULT_PROVIDER", "gpu-1, openai, openrouter"):
        assert remedy in text
    assert ("GROQ_API_KEY" in text) is (unconfigured == "groq")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("opnai", ["openai"]),
        ("OpenAI", ["openai"]),
        ("open-router", ["openrouter"]),
        ("gpu1", ["gpu-1"]),
        ("zzz", []),
        ("", []),
    ],
)
def test_an_unknown_provider(name: str, nearest: list[str]) -> None:
    with pytest.raises(UnknownProvider) as caught:
        find_provider(CATALOGUE, name)

    assert (caught.value.provider, caught.value.nearest[:1]) == (name, nearest)
    assert str(caught.value) == unknown_provider_message(CATALOGUE, name)
    for provider in nearest or CATALOGUE.rows:
        assert provider in str(caught.value)
    assert "PROVIDERS_FILE" in str(caught.value)


@pytest.mark.parametrize("provider", ["opnai", "", "x" * 100_000])
def test_an_unknown_provider_beside_a_request(provider: str) -> None:
    with pytest.raises(UnknownProvider) as caught:
        route(CATALOGUE, "fast", provider=provider, default_provider="openai")

    assert len(str(caught.value)) < 1000
