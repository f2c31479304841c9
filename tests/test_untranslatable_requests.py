"""Tests that a native request that has no translation is refused when it is submitted."""

from typing import Any

import httpx
import pytest

HELLO = {"role": "user", "content": "hello"}


def request(**fields: Any) -> dict[str, Any]:
    return {"provider": "anthropic", "model": "claude-sonnet-5", "messages": [HELLO], **fields}


@pytest.mark.parametrize(
    ("fields", "location", "message"),
    [
        ({"seed": 1}, ["seed"], "anthropic cannot take this: Anthropic has no such parameter"),
        ({"temperature": 1.5}, ["temperature"], "Anthropic takes numbers from 0 to 1"),
        (
            {"messages": [{"role": "system", "content": "be brief"}]},
            ["messages"],
            "Anthropic needs a message of the user",
        ),
        (
            {"provider": "ollama", "tool_choice": "required"},
            ["tool_choice"],
            "Ollama cannot force a tool call",
        ),
    ],
)
async def test_what_has_no_translation_gets_422(
    api: httpx.AsyncClient, fields: dict[str, Any], location: list[str], message: str
) -> None:
    answer = await api.post("/batch", json={"requests": [request(**fields)]})

    assert answer.status_code == 422
    [error] = answer.json()["detail"]
    assert error["loc"][-1:] == location
    assert message in error["msg"]


async def test_what_has_a_translation_is_accepted(api: httpx.AsyncClient) -> None:
    body = {"requests": [request(stop="END", top_p=0.5, temperature=1)]}

    answer = await api.post("/batch", json=body, headers={"Prefer": "respond-async"})

    assert answer.status_code == 202
