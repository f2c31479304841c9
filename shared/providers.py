"""The providers: one row each. A row is all that an OpenAI-compatible provider takes."""

from dataclasses import dataclass
from typing import Literal

Dialect = Literal["openai", "ollama"]


@dataclass(frozen=True, slots=True)
class Provider:
    """Its name is also its lane, and in upper case the prefix of its environment variables."""

    name: str
    base_url: str
    dialect: Dialect
    key_required: bool = True


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("openrouter", "https://openrouter.ai/api/v1", "openai"),
        Provider("ollama", "http://localhost:11434", "ollama", key_required=False),
    )
}

WEBHOOK_LANE = "webhooks"  # the lane of webhook deliveries, beside one per provider
