"""Provides the path and the body of a live call."""

CHAT = {"model": "openrouter/openai/GPT-X", "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"
