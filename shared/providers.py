"""The providers, one row each.

A provider that speaks a known dialect needs a row and nothing else: its settings, its lane, its
headers and its part in the simulator follow from the row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider's row.

    `name` is also the name of its lane and the prefix of its environment variables. `dialect` is a
    key of `worker.providers.dialects.DIALECTS`. `headers` are sent with every call; in a value,
    `{http_referer}` stands for the provider's setting of this name.
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
            # Both are shown by OpenRouter: https://openrouter.ai/docs/app-attribution
            headers={"HTTP-Referer": "{http_referer}", "X-Title": "LLM batch orchestrator"},
        ),
        Provider("ollama", "http://localhost:11434", "ollama", key_required=False),
    )
}

WEBHOOK_LANE = "webhooks"  # the lane of webhook deliveries, beside one lane a provider


def variable(provider: str, setting: str) -> str:
    """Returns the environment variable of a provider's setting, such as `OPENROUTER_API_KEY`."""
    return f"{provider}_{setting}".replace("-", "_").upper()
