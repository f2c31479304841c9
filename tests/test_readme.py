"""What the README shows is what happens."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from command import up

from shared.settings import ProviderSettings, Settings

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()
EXAMPLE_ENVIRONMENT = (PROJECT / ".env.example").read_text()


async def test_the_curl_line_gives_what_is_shown(environment: dict[str, str]) -> None:
    match = re.search(r"^\$ (curl .*(?:\n {4}.*)*)$([\s\S]*?)```", README, re.MULTILINE)
    assert match
    curl, shown = match.groups()
    async with up(environment, "--simulate") as deployment:
        shell = await asyncio.create_subprocess_shell(
            curl.replace("localhost:8000", deployment.url), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await shell.communicate()

    answer = json.loads(output)
    assert [response["request_id"] for response in answer["responses"]] == ["req-1", "req-2"]
    assert set(re.findall(r'"(\w+)":', shown)) == {*answer, *answer["responses"][0]}


@pytest.mark.parametrize(
    "setting",
    [
        *(name.upper() for name in Settings.model_fields),
        *(f"OPENROUTER_{name.upper()}" for name in ProviderSettings.model_fields),
    ],
)
def test_every_setting_is_explained(setting: str) -> None:
    assert setting in README
    assert setting in EXAMPLE_ENVIRONMENT
