"""Defines requests that several test modules send."""

from typing import Any

# The project's first specification has this request. It must always work in exactly this form.
SEED_EXAMPLE: dict[str, Any] = {
    "requests": [
        {
            "request_id": "req-1",
            "provider": "openrouter",
            "model": "google/gemma-3-27b-it:free",
            "messages": [{"role": "user", "content": "Tell me a short story about a cat."}],
            "temperature": 0.5,
            "max_tokens": 150,
        },
        {
            "request_id": "req-2",
            "provider": "ollama",
            "model": "deepseek-r1:8b",
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {
                    "role": "user",
                    "content": "Explain the concept of quantum entanglement in simple terms.",
                },
            ],
            "temperature": 0.7,
            "max_tokens": 200,
        },
    ]
}
