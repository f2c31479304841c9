"""Records the requests that a provider gets, byte for byte, and answers in each vendor's format."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

# A program that parses these answers and writes them again would change their spaces, numbers and
# escapes.
CHAT = """{
  "id": "c-1", "object": "chat.completion", "created": 1.0, "model": "m",
  "choices": [{"index": 0, "message": {"content": "h\\u00e9 \\/", "role": "assistant"},
               "logprobs": {"content": [{"logprob": -0.12345678901234567890}]},
               "finish_reason": "stop"}],
  "usage": {"total_tokens": 7, "prompt_tokens": 4, "completion_tokens": 3},
  "z": 12345678901234567890123, "a": 1E-2, "b": null
}"""
RESPONSES = """{"id": "r-1", "object": "response", "status": "completed", "created_at": 1.0,
  "output": [{"type": "reasoning", "summary": []},
             {"type": "message", "role": "assistant", "content": [
               {"type": "output_text", "text": "hé", "annotations": []}]}],
  "usage": {"input_tokens": 4, "output_tokens": 3, "total_tokens": 7}, "z": 1.10}"""
EMBEDDINGS = """{"object": "list", "data": [{"object": "embedding", "index": 0,
  "embedding": [0.10, -1e-7, 12345678901234567890.5]}], "model": "m",
  "usage": {"prompt_tokens": 4, "total_tokens": 4}}"""
MESSAGES = """{"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
  "content": [{"type": "text", "text": "hé"}], "stop_reason": "end_turn", "stop_sequence": null,
  "usage": {"output_tokens": 3, "input_tokens": 4, "x": 1.10}}"""
GENERATE_CONTENT = """{"candidates": [{"content": {"parts": [{"text": "hé"}], "role": "model"},
  "finishReason": "STOP", "avgLogprobs": -0.10}],
  "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 3, "totalTokenCount": 7}}"""
OLLAMA = """{"model": "m", "message": {"role": "assistant", "content": "hé"}, "done": true,
  "done_reason": "stop", "prompt_eval_count": 4, "eval_count": 3}"""
_ANSWERS = {
    r"/api/chat$": OLLAMA,
    r"/chat/completions$": CHAT,
    r"/responses$": RESPONSES,
    r"/embeddings$": EMBEDDINGS,
    r"/messages$": MESSAGES,
    r":generateContent$": GENERATE_CONTENT,
}


@dataclass(slots=True)
class Recorder:
    url: str
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.bodies.append((await request.read()).decode())
        for pattern, answer in _ANSWERS.items():
            if re.search(pattern, request.path):
                return web.Response(text=answer, content_type="application/json")
        return web.Response(status=404)


@asynccontextmanager
async def recorder() -> AsyncIterator[Recorder]:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    recorder = Recorder("")
    app.router.add_post("/{path:.*}", recorder.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    recorder.url = f"http://{host}:{port}"
    try:
        yield recorder
    finally:
        await runner.cleanup()
