"""Makes responses of providers, and the answers that dialects read from them."""

from dataclasses import replace
from typing import Any

from shared.dialects.dialect import Answer, Codec

HI = Answer("hi", 4, 3, 7, "stop")
NO_USAGE = Answer("hi", 0, 0, 0, None)
USAGE = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}


def without_usage(codec: Codec, reply: object) -> Answer:
    return replace(codec.read(reply)[0], usage=None)


def choices(message: object, **fields: object) -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": "stop", **fields}]}
