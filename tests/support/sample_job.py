"""Defines a realistic job, which classifies product reviews, and a provider that answers it."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from support.stack import chat

UNKNOWN_MODEL = "google/gemini-flash-1.5-8b"
LATENCY_S = {  # median latency of each model
    "openai/gpt-4o-mini": 0.9,
    "anthropic/claude-3.5-haiku": 1.4,
    "llama3.1:8b": 1.9,
    "qwen2.5:7b": 2.3,
}
SIGMA = 0.35  # standard deviation of the logarithm of the latency
OVERLOADED_SHARE = 0.06  # share of the reviews whose first call OpenRouter answers with 503

_OPENROUTER = ("openai/gpt-4o-mini", "anthropic/claude-3.5-haiku")
_OLLAMA = ("llama3.1:8b", "qwen2.5:7b")
_PRODUCTS = ("headphones", "coffee grinder", "desk lamp", "rain jacket", "keyboard", "backpack")
_REMARKS = (
    "Arrived a day early and works exactly as described.",
    "Good value, but the manual explains almost nothing.",
    "Stopped working after two weeks; support never replied.",
    "Lighter than I expected, and it feels sturdy.",
    "The colour is darker than in the pictures. I am keeping it anyway.",
    "My second one. The first has lasted six years.",
)
_INSTRUCTION = (
    "Classify the sentiment of the review as positive, neutral or negative, and name the feature"
    ' it is about. Answer as JSON: {"sentiment": …, "feature": …}.'
)


def review_requests(count: int) -> list[dict[str, Any]]:
    """Returns `count` requests, one for each review. About two of three are for OpenRouter.

    Some requests name a model that OpenRouter does not have.
    """
    draw = random.Random(4)
    requests = []
    for index in range(count):
        provider, models = ("ollama", _OLLAMA) if index % 3 == 2 else ("openrouter", _OPENROUTER)
        model = UNKNOWN_MODEL if index % 16 == 9 else draw.choice(models)
        if model == UNKNOWN_MODEL:
            provider = "openrouter"
        review = f"Review {index:04} of the {draw.choice(_PRODUCTS)}: {draw.choice(_REMARKS)}"
        request = chat(
            review,
            provider=provider,
            model=model,
            request_id=f"review-{index:04}",
            temperature=0,
            max_tokens=60,
        )
        request["messages"].insert(0, {"role": "system", "content": _INSTRUCTION})
        requests.append(request)
    return requests


class ReviewProvider:
    """Answers like OpenRouter and like Ollama.

    rate_limit_s: if set, OpenRouter answers every call with 429 and this number of seconds as
        Retry-After.
    """

    def __init__(self) -> None:
        self.url = ""
        self.rate_limit_s: int | None = None
        self._calls = Counter[str]()

    @property
    def worker_settings(self) -> dict[str, str]:
        """Returns settings with the limits that a small account and one graphics card have.

        One worker alone cannot use all slots.
        """
        return {
            "OPENROUTER_BASE_URL": f"{self.url}/api/v1",
            "OPENROUTER_MAX_CONCURRENT_REQUESTS": "6",
            "OLLAMA_BASE_URL": self.url,
            "OLLAMA_MAX_CONCURRENT_REQUESTS": "4",
            "WORKER_MAX_JOBS": "5",
        }

    async def openrouter(self, request: web.Request) -> web.Response:
        body = await request.json()
        model, review = body["model"], body["messages"][-1]["content"]
        self._calls[review] += 1
        draw = random.Random(f"{review} {self._calls[review]}")
        if self.rate_limit_s is not None:
            retry_after = {"Retry-After": str(self.rate_limit_s)}
            return _openrouter_error(429, "Rate limit exceeded", headers=retry_after)
        await asyncio.sleep(draw.lognormvariate(0, SIGMA) * LATENCY_S.get(model, 0.2))
        if model == UNKNOWN_MODEL:
            return _openrouter_error(404, f"No endpoints found for {model}.")
        if self._calls[review] == 1 and draw.random() < OVERLOADED_SHARE:
            return _openrouter_error(503, "The model is overloaded. Please try again later.")
        prompt_tokens, completion_tokens = draw.randint(92, 118), draw.randint(14, 23)
        answer = {"role": "assistant", "content": _answer(draw)}
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "cost": (0.15 * prompt_tokens + 0.6 * completion_tokens) / 1_000_000,
        }
        choice = {"index": 0, "message": answer, "finish_reason": "stop"}
        return web.json_response({"model": model, "choices": [choice], "usage": usage})

    async def ollama(self, request: web.Request) -> web.Response:
        body = await request.json()
        draw = random.Random(body["messages"][-1]["content"])
        await asyncio.sleep(draw.lognormvariate(0, SIGMA) * LATENCY_S[body["model"]])
        return web.json_response(
            {
                "model": body["model"],
                "message": {"role": "assistant", "content": _answer(draw)},
                "done": True,
                "done_reason": "stop",
                "prompt_eval_count": draw.randint(92, 118),
                "eval_count": draw.randint(14, 23),
            }
        )


@asynccontextmanager
async def review_provider() -> AsyncIterator[ReviewProvider]:
    """Runs the provider as an HTTP server in this process."""
    provider = ReviewProvider()
    app = web.Application()
    app.router.add_post("/api/v1/chat/completions", provider.openrouter)
    app.router.add_post("/api/chat", provider.ollama)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        await runner.cleanup()


def _answer(draw: random.Random) -> str:
    sentiment = draw.choice(("positive", "neutral", "negative"))
    feature = draw.choice(("delivery", "price", "durability", "weight", "colour"))
    return json.dumps({"sentiment": sentiment, "feature": feature})


def _openrouter_error(
    status: int, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    error = {"code": status, "message": message}
    return web.json_response({"error": error}, status=status, headers=headers)
