"""Makes one small call to a provider, and shows the call and the response."""

import time
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus

import httpx
import orjson

from shared.dialects.dialect import Answer, Codec, ErrorInBody, NoAnswer, Unfinished
from shared.dialects.json_text import read_json
from shared.queue.item_request import ItemRequest
from worker.providers.endpoint import Endpoint, encode

STRUCK_OUT = "…"
MAX_TOKENS = 16
_PROMPT = "Say hello."
_MAX_CHARACTERS = 4000  # limit of the shown part of a body
_SECRET_HEADERS = {"set-cookie"}


async def check(endpoint: Endpoint, model: str) -> tuple[list[str], bool]:
    """Makes the call. Returns the lines to show, and whether the provider answered.

    In the lines, "…" replaces API keys, cookies and the end of a long body.
    """
    item = _item(endpoint.provider, model)
    codec = endpoint.dialect.native
    content, url = encode(endpoint.row, codec, item), endpoint.url(codec, model)
    headers = endpoint.call_headers(codec)
    lines = [f"POST {url}", *_headers(headers), "", *_body(content), ""]
    started = time.monotonic()
    try:
        # Workers do not use proxies from the environment and do not follow redirects either.
        async with httpx.AsyncClient(timeout=endpoint.timeout_s, trust_env=False) as client:
            response = await client.post(url, content=content, headers=headers)
    except (httpx.HTTPError, OSError, UnicodeError) as error:
        lines.append(f"No answer: {str(error) or type(error).__name__}")
        return _struck(lines, endpoint.keys), False
    seconds = time.monotonic() - started
    lines += [
        f"{response.status_code} {response.reason_phrase} after {seconds:.2f} s",
        *_headers(response.headers),
        "",
        *_body(response.content),
        "",
    ]
    answer, verdict = _verdict(codec, response)
    return _struck([*lines, verdict], endpoint.keys), answer is not None


def _item(provider: str, model: str) -> ItemRequest:
    chat = {"messages": [{"role": "user", "content": _PROMPT}], "max_tokens": MAX_TOKENS}
    return {"provider": provider, "model": model, "chat": chat}


def _verdict(codec: Codec, response: httpx.Response) -> tuple[Answer | None, str]:
    if response.status_code != HTTPStatus.OK:
        return None, f"The provider refused the call with {response.status_code}."
    try:
        value, _ = read_json(response.content)
        answer, _ = codec.read(value)
    except ErrorInBody as error:
        return None, f"The provider reports an error with status {error.status_code}."
    except Unfinished as error:
        return None, f"The provider did not finish its answer ({error.evidence})."
    except (NoAnswer, ValueError):
        return None, "The body contains no answer. Check the base URL."
    tokens = f"{answer.prompt_tokens} + {answer.completion_tokens} tokens"
    return answer, f"The provider answered: {answer.content!r} ({tokens})"


def _headers(headers: Mapping[str, str]) -> Iterator[str]:
    for name, value in headers.items():
        yield f"{name}: {STRUCK_OUT if name.lower() in _SECRET_HEADERS else value}"


def _body(content: bytes) -> list[str]:
    try:
        text = orjson.dumps(orjson.loads(content), option=orjson.OPT_INDENT_2).decode()
    except ValueError:
        text = content.decode(errors="replace")
    if len(text) > _MAX_CHARACTERS:
        text = f"{text[:_MAX_CHARACTERS]}… ({len(text):,} characters)"
    return text.splitlines()


def _struck(lines: list[str], keys: Iterable[str]) -> list[str]:
    for key in keys:
        lines = [line.replace(key, STRUCK_OUT) for line in lines]
    return lines
