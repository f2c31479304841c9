"""Lists the built-in providers, one row per provider.

To add a provider with a known dialect, add one row. The provider's settings, lane, headers and
simulation follow from its row.
"""

from shared.providers.row import Provider

PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider(
            "openrouter",
            "https://openrouter.ai/api/v1",
            model_case="lower",
            fills_defaults=True,
            # OpenRouter shows both on its pages: https://openrouter.ai/docs/app-attribution
            headers={"HTTP-Referer": "{http_referer}", "X-Title": "LLM batch orchestrator"},
        ),
        Provider(
            "ollama",
            "http://localhost:11434",
            "ollama",
            key_required=False,
            model_case="lower",
            fills_defaults=True,
        ),
    )
}

WEBHOOK_LANE = "webhooks"  # the lane of webhook deliveries; every provider has its own lane
