"""Lists the built-in providers, one row per provider.

To add a provider with a known dialect, add one row. The provider's settings, lane, headers and
simulation follow from its row. `docs/providers.md` has an example for each provider.
"""

from collections.abc import Mapping
from types import MappingProxyType

from shared.providers.provider_row import Provider

_SDK_TIMEOUT_S = 600.0  # time-out of the vendors' SDKs: reasoning may take minutes
_FAST_TIMEOUT_S = 60.0  # time-out of the SDKs of vendors whose hardware answers within seconds
_LOAD_TIMEOUT_S = 600.0  # a local server may load the model first

_ROWS = (
    Provider(
        "openrouter",
        "https://openrouter.ai/api/v1",
        model_case="lower",
        fills_defaults=True,
        limits_per="account",
        check_path="/key",  # the listing of models needs no key
        # OpenRouter shows these values on its pages: https://openrouter.ai/docs/app-attribution
        headers={"HTTP-Referer": "{http_referer}", "X-Title": "LLM batch orchestrator"},
    ),
    Provider(
        "ollama",
        "http://localhost:11434",
        "ollama",
        key_required=False,
        enabled=True,
        model_case="lower",
        fills_defaults=True,
        limits_per="account",
    ),
    Provider(
        "openai",
        "https://api.openai.com/v1",
        # Reasoning models refuse max_tokens; all chat models accept max_completion_tokens.
        token_limit_param="max_completion_tokens",  # noqa: S106 — not a secret
        timeout_s=_SDK_TIMEOUT_S,
        reserves_output=True,
        counts_refused=True,
    ),
    Provider(
        "azure",  # a model's name is the name of a deployment
        "https://{resource}.openai.azure.com/openai/v1",
        api_key_env="AZURE_OPENAI_API_KEY",
        auth="api-key",
        token_limit_param="max_completion_tokens",  # noqa: S106
        timeout_s=_SDK_TIMEOUT_S,
        reserves_output=True,
    ),
    Provider(
        "anthropic",
        "https://api.anthropic.com",
        "anthropic",
        auth="x-api-key",
        headers={"anthropic-version": "2023-06-01"},
        timeout_s=_SDK_TIMEOUT_S,
        limit_headers="anthropic",
    ),
    Provider(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        "gemini",
        api_key_env="GOOGLE_API_KEY",
        auth="x-goog-api-key",
        # Google answers 400 to a field that its page does not list:
        # https://ai.google.dev/gemini-api/docs/openai
        unsupported=frozenset(
            {
                "frequency_penalty",
                "logit_bias",
                "presence_penalty",
                "prompt_cache_key",
                "seed",
                "store",
            }
        ),
        timeout_s=_SDK_TIMEOUT_S,
    ),
    Provider(
        "mistral",
        "https://api.mistral.ai/v1",
        # Mistral answers 422 to a field that its page does not list: https://docs.mistral.ai/api
        # Mistral's name for `seed` is `random_seed`.
        unsupported=frozenset(
            {
                "logit_bias",
                "logprobs",
                "seed",
                "service_tier",
                "store",
                "stream_options",
                "top_logprobs",
                "user",
            }
        ),
        timeout_s=_SDK_TIMEOUT_S,
    ),
    Provider(
        "groq",
        "https://api.groq.com/openai/v1",
        token_limit_param="max_completion_tokens",  # noqa: S106
        # Groq answers 400 to these fields: https://console.groq.com/docs/openai
        unsupported=frozenset({"logit_bias", "logprobs", "top_logprobs"}),
        timeout_s=_FAST_TIMEOUT_S,
        limit_headers="groq",
        reserves_output=True,
    ),
    Provider("together", "https://api.together.ai/v1", timeout_s=_SDK_TIMEOUT_S),
    Provider(
        "fireworks",
        "https://api.fireworks.ai/inference/v1",
        timeout_s=_SDK_TIMEOUT_S,
        limits_per="account",
        limit_headers="fireworks",
    ),
    Provider("deepinfra", "https://api.deepinfra.com/v1/openai", timeout_s=_SDK_TIMEOUT_S),
    # DeepSeek sends blank lines for up to 30 minutes while a request waits for its turn.
    Provider("deepseek", "https://api.deepseek.com", timeout_s=1800.0),
    Provider(
        "xai",
        "https://api.x.ai/v1",
        token_limit_param="max_completion_tokens",  # noqa: S106
        timeout_s=_SDK_TIMEOUT_S,
    ),
    Provider(
        "cerebras",
        "https://api.cerebras.ai/v1",
        token_limit_param="max_completion_tokens",  # noqa: S106
        # Cerebras answers 400 to these fields:
        # https://inference-docs.cerebras.ai/resources/openai
        unsupported=frozenset(
            {
                "frequency_penalty",
                "logit_bias",
                "parallel_tool_calls",
                "presence_penalty",
                "service_tier",
            }
        ),
        limit_headers="cerebras",
        reserves_output=True,
        timeout_s=_FAST_TIMEOUT_S,
    ),
    Provider("perplexity", "https://api.perplexity.ai", timeout_s=_SDK_TIMEOUT_S),
    Provider(
        "cohere",
        "https://api.cohere.ai/compatibility/v1",
        api_key_env="CO_API_KEY",
        timeout_s=_SDK_TIMEOUT_S,
    ),
    Provider(
        "huggingface",
        "https://router.huggingface.co/v1",
        api_key_env="HF_TOKEN",
        timeout_s=_SDK_TIMEOUT_S,
        limits_per="account",
    ),
    Provider(
        "nvidia",
        "https://integrate.api.nvidia.com/v1",
        timeout_s=_SDK_TIMEOUT_S,
        limits_per="account",
    ),
    Provider(
        "vllm",
        "http://localhost:8000/v1",
        key_required=False,
        timeout_s=_LOAD_TIMEOUT_S,
        limits_per="account",
    ),
    Provider(
        "sglang",
        "http://localhost:30000/v1",
        key_required=False,
        timeout_s=_LOAD_TIMEOUT_S,
        limits_per="account",
    ),
    Provider(
        "llamacpp",
        "http://127.0.0.1:8080/v1",
        key_required=False,
        timeout_s=_LOAD_TIMEOUT_S,
        limits_per="account",
    ),
    Provider(
        "lmstudio",
        "http://127.0.0.1:1234/v1",
        key_required=False,
        timeout_s=_LOAD_TIMEOUT_S,
        limits_per="account",
    ),
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.name: row for row in _ROWS})

WEBHOOK_LANE = "webhooks"  # the lane of webhook deliveries; every provider has its own lane
