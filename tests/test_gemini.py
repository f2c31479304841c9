"""Tests the dialect of Gemini: generateContent, and its OpenAI endpoint."""

from typing import Any

import pytest
from support.providers import endpoint_of

from shared.dialects.dialect import Answer, ErrorInBody, NoAnswer, Operation
from shared.dialects.gemini import GEMINI
from shared.providers import PROVIDERS
from shared.settings import ProviderSettings
from worker.providers.endpoint import Endpoint

ROW = PROVIDERS["gemini"]
BASE = ROW.base_url
GENERATE = GEMINI.foreign[Operation.GENERATE_CONTENT]


@pytest.fixture
def there() -> Endpoint:
    return endpoint_of(ROW, ProviderSettings(api_key="k"))


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3-flash", "models/gemini-3-flash"),
        ("models/gemini-3-flash", "models/gemini-3-flash"),
        ("tunedModels/mine", "tunedModels/mine"),
        ("a/b", "models/a%2Fb"),
        ("../files?x=1#y", "models/..%2Ffiles%3Fx%3D1%23y"),
        ("models/../files", "models/..%2Ffiles"),
    ],
)
def test_the_model_is_in_the_path_of_generate_content(
    there: Endpoint, model: str, path: str
) -> None:
    assert str(there.url(GENERATE, model)) == f"{BASE}/{path}:generateContent"


def test_other_calls_go_to_the_openai_endpoint(there: Endpoint) -> None:
    codecs = [GEMINI.native, *map(GEMINI.foreign.get, (Operation.CHAT, Operation.EMBEDDINGS))]

    assert [str(there.url(codec, "m")) for codec in codecs if codec] == [
        f"{BASE}/openai/chat/completions",
        f"{BASE}/openai/chat/completions",
        f"{BASE}/openai/embeddings",
    ]


def test_each_endpoint_takes_the_key_in_its_own_header(there: Endpoint) -> None:
    keys = [
        {
            name: there.call_headers(codec)[name]
            for name in ("authorization", "x-goog-api-key")
            if name in there.call_headers(codec)
        }
        for codec in (GENERATE, GEMINI.native)
    ]

    assert keys == [{"x-goog-api-key": "k"}, {"authorization": "Bearer k"}]


# Recorded: https://ai.google.dev/api/generate-content
ANSWER: dict[str, Any] = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "hm", "thought": True},
                    {"text": "h", "thoughtSignature": "s"},
                    {"text": "i"},
                ],
            },
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 4,
        "candidatesTokenCount": 1,
        "thoughtsTokenCount": 2,
        "totalTokenCount": 7,
    },
    "modelVersion": "gemini-3-flash",
    "responseId": "r",
}


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (ANSWER, Answer("hi", 4, 3, 7, "STOP", usage=ANSWER["usageMetadata"])),
        (
            {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f"}}]}}]},
            Answer(""),
        ),
        ({"candidates": [{"finishReason": "MAX_TOKENS"}]}, Answer("", finish_reason="MAX_TOKENS")),
        (
            {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
            Answer("", finish_reason="PROHIBITED_CONTENT"),
        ),
    ],
)
def test_the_answer_to_a_generate_content_body(reply: object, answer: Answer) -> None:
    assert GENERATE.read(reply) == (answer, reply)


@pytest.mark.parametrize(
    ("reply", "status_code"),
    [
        ({"error": {"code": 429, "message": "oh", "status": "RESOURCE_EXHAUSTED"}}, 429),
        ({"candidates": []}, None),
        ({"usageMetadata": {}}, None),
        ([], None),
        (None, None),
    ],
)
def test_no_answer(reply: object, status_code: int | None) -> None:
    with pytest.raises((ErrorInBody, NoAnswer)) as caught:
        GENERATE.read(reply)

    assert getattr(caught.value, "status_code", None) == status_code
