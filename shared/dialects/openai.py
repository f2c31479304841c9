"""Defines the dialect of OpenAI's API, with OpenRouter's additional fields and errors.

https://platform.openai.com/docs/api-reference/chat · …/responses · …/embeddings
https://openrouter.ai/docs/api-reference/overview · https://openrouter.ai/docs/api-reference/errors
https://openrouter.ai/docs/use-cases/usage-accounting
"""

from collections.abc import Mapping
from typing import Any

from shared.dialects.chat_stream import ChatStream
from shared.dialects.dialect import Answer, Codec, Dialect, NoAnswer, Operation, Unfinished
from shared.dialects.error_in_body import raise_error
from shared.dialects.response_stream import ResponseStream
from shared.dialects.values import record, records, text_of, tokens, usd, word


def decode_chat(reply: Any) -> Answer:  # noqa: ANN401 — JSON
    """Returns the answer of a chat completion: see `Codec.decode`."""
    reply = record(reply)
    if reply.get("error"):
        raise_error(reply["error"])
    choice = _choice(records(reply.get("choices")))
    if choice.get("error"):
        raise_error(choice["error"])
    finish_reason = word(choice.get("finish_reason"))
    if finish_reason == "error":
        raise Unfinished("finish_reason: error")
    message = choice["message"]
    usage = record(reply.get("usage"))
    prompt_tokens, completion_tokens, total_tokens = counts(usage)
    return Answer(
        content=text_of(message.get("content") if isinstance(message, dict) else message),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=total_tokens,
        finish_reason=finish_reason,
        cost_usd=usd(usage.get("cost")),
        message=message if isinstance(message, dict) and _has_more(message) else None,
        choices=reply["choices"] if len(reply["choices"]) > 1 else None,
        logprobs=choice.get("logprobs") or None,
        usage=usage or None,
    )


def decode_response(reply: Any) -> Answer:  # noqa: ANN401 — JSON
    """Returns the answer of a response: see `Codec.decode`.

    A response with the status `queued` or `in_progress` is an answer, too: the request asked for a
    response that runs in the background.
    """
    reply = record(reply)
    raise_error(reply.get("error"))
    status = word(reply.get("status"))
    if status in {"failed", "cancelled"}:
        raise Unfinished(f"status: {status}")
    if not isinstance(reply.get("output"), list):
        raise NoAnswer
    messages = [item for item in records(reply["output"]) if item.get("type") == "message"]
    usage = record(reply.get("usage"))
    prompt_tokens, completion_tokens, total_tokens = counts(usage)
    return Answer(
        content="".join(text_of(message.get("content")) for message in messages),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=total_tokens,
        finish_reason=word(reply.get("incomplete_details")) or status,
        usage=usage or None,
    )


def decode_embeddings(reply: Any) -> Answer:  # noqa: ANN401 — JSON
    """Returns an answer with the token counts of embeddings, and no text: see `Codec.decode`."""
    reply = record(reply)
    raise_error(reply.get("error"))
    if not any(item.get("embedding") for item in records(reply.get("data"))):
        raise NoAnswer
    usage = record(reply.get("usage"))
    prompt_tokens, completion_tokens, total_tokens = counts(usage)
    return Answer("", prompt_tokens, completion_tokens, total_tokens, usage=usage or None)


_TOKENS = ("prompt_tokens", "completion_tokens")
_OTHER_TOKENS = ("input_tokens", "output_tokens")


def counts(usage: Mapping[str, Any]) -> tuple[int, int, int]:
    """Returns the numbers of tokens of the prompt, of the completion, and of both. An invalid
    number is 0."""
    names = _TOKENS if "prompt_tokens" in usage else _OTHER_TOKENS
    prompt, completion = tokens(usage.get(names[0])), tokens(usage.get(names[1]))
    return prompt, completion, tokens(usage.get("total_tokens")) or prompt + completion


def _choice(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the first choice that is an answer, or else the first that has a message.

    If no choice has a message, raises ErrorInBody if a choice reports an error, or else NoAnswer.
    """
    if len(choices) == 1 and isinstance(choices[0].get("message"), dict):  # the usual case
        return choices[0]
    found = [choice for choice in choices if isinstance(choice.get("message"), dict | str)]
    if not found:
        for choice in choices:
            raise_error(choice.get("error"))
        raise NoAnswer
    return next(filter(_is_answer, found), found[0])


def _is_answer(choice: dict[str, Any]) -> bool:
    """Returns whether a choice has a text, a tool call, a refusal or the like, and no error."""
    if choice.get("error") or word(choice.get("finish_reason")) == "error":
        return False
    message = choice["message"]
    return bool(
        message.get("content") or _has_more(message) if isinstance(message, dict) else message
    )


def _has_more(message: dict[str, Any]) -> bool:
    """Returns whether a message has more than a role and a text."""
    for name, value in message.items():
        if value and name != "role" and (name != "content" or not isinstance(value, str)):
            return True
    return False


CHAT = Codec("/chat/completions", decode_chat, stream=ChatStream, stream_usage=True)
RESPONSES = Codec("/responses", decode_response, stream=ResponseStream)
EMBEDDINGS = Codec("/embeddings", decode_embeddings)
OPENAI = Dialect(
    CHAT,
    {
        Operation.CHAT: CHAT,
        Operation.RESPONSES: RESPONSES,
        Operation.EMBEDDINGS: EMBEDDINGS,
    },
)
