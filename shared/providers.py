"""Defines the providers, one row per provider.

To add a provider with a known dialect, add one row. The provider's settings, lane, headers and
simulation follow from its row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Provider:
    """The row of a provider.

    `name` is also the name of the provider's lane and the prefix of its environment variables.
    `dialect` is a key of `worker.providers.dialects.DIALECTS`. `headers` are sent with every call.
    In the value of a header, `{http_referer}` stands for the provider's setting `http_referer`.
    """

    name: str
    base_url: str
    dialect: str
    key_required: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider(
            "openrouter",
            "https://openrouter.ai/api/v1",
            "openai",
            # OpenRouter shows both on its pages: https://openrouter.ai/docs/app-attribution
            headers={"HTTP-Referer": "{http_referer}", "X-Title": "LLM batch orchestrator"},
        ),
        Provider("ollama", "http://localhost:11434", "ollama", key_required=False),
    )
}

WEBHOOK_LANE = "webhooks"  # the lane of webhook deliveries; every provider has its own lane


def variable(provider: str, setting: str) -> str:
    """Returns the name of a provider's environment variable, such as `OPENROUTER_API_KEY`."""
    return f"{provider}_{setting}".replace("-", "_").upper()
