"""What the README shows is what happens."""

import asyncio
import json
import os
import re
import sys
from base64 import b64encode
from pathlib import Path

import httpx
import pytest
from support.command import up
from support.stack import chat

from api.examples import EXAMPLES
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


async def test_every_feature_is_shown_as_it_works(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """In this order, with one item that fails."""
    shown = re.findall(r"^\$ (curl .*)$", README, re.MULTILINE)
    requests = [chat("one"), chat("two", provider="ollama"), chat("three", model="sim-404")]
    (tmp_path / "requests.ndjson").write_text("".join(f"{json.dumps(r)}\n" for r in requests))
    (tmp_path / "batch.json").write_text(json.dumps({"requests": requests}))
    secret = {"WEBHOOK_SECRET": f"whsec_{b64encode(bytes(32)).decode()}"}
    outputs: dict[str, str] = {}
    async with up(environment | secret, "--simulate") as deployment:
        for what, line in EXAMPLES.items():
            assert line in shown, what
            job = json.loads(next(iter(outputs.values())))["job_id"] if outputs else ""
            shell = await asyncio.create_subprocess_shell(
                line.replace("localhost:8000", deployment.url).replace("-s", "--fail -s", 1),
                stdout=asyncio.subprocess.PIPE,
                cwd=tmp_path,
                env=os.environ | {"JOB": job, "KEY": "any"},
            )
            async with asyncio.timeout(30):
                output, _ = await shell.communicate()
            assert shell.returncode == 0, what
            outputs[what] = output.decode()
        async with httpx.AsyncClient(base_url=deployment.url) as client:
            document = (await client.get("/openapi.json")).json()

    answers = list(outputs.values())
    results, failed, events, streamed = (answers[n].splitlines() for n in (2, 3, 4, 5))
    assert [json.loads(line)["index"] for line in results] == [0, 1, 2]
    assert [json.loads(line)["error_code"] for line in failed] == ["model_not_found"]
    assert [line for line in events if "event" in line] == ["event: item"] * 3 + ["event: done"]
    assert json.loads(streamed[-1])["failed"] == 1
    assert json.loads(answers[6])["failed"] == 1
    assert json.loads(answers[7])["webhook"]["status"] == "waiting"
    assert json.loads(answers[8])["total_requests"] == 1
    assert len(json.loads(answers[9])["jobs"]) == 3
    assert json.loads(answers[10])["status"] == "completed"
    assert all(line in document["info"]["description"] for line in EXAMPLES.values())


async def test_the_commands_and_the_client_do_what_is_shown(
    environment: dict[str, str], tmp_path: Path
) -> None:
    commands = re.findall(r"^\$ (orchestrator (?!demo|up).*)$", README, re.MULTILINE)
    [program] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    requests = [chat("one"), chat("two", provider="ollama"), chat("three", model="sim-404")]
    (tmp_path / "requests.ndjson").write_text("".join(f"{json.dumps(r)}\n" for r in requests))
    (tmp_path / "batch.json").write_text(json.dumps({"requests": requests[:2]}))
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    bin_ = Path(sys.executable).parent
    async with up(environment, "--simulate") as deployment:
        shell_environment = environment | {
            "PATH": f"{bin_}:{environment['PATH']}",
            "ORCHESTRATOR_URL": deployment.url,
        }

        async def run(line: str) -> tuple[int | None, str]:
            shell = await asyncio.create_subprocess_shell(
                line, stdout=asyncio.subprocess.PIPE, cwd=tmp_path, env=shell_environment
            )
            async with asyncio.timeout(60):
                output, _ = await shell.communicate()
            return shell.returncode, output.decode()

        submitted = await run("orchestrator submit requests.ndjson --json")
        shell_environment["JOB"] = json.loads(submitted[1])["job_id"]
        codes = {line: (await run(line))[0] for line in commands}
        (tmp_path / "program.py").write_text(
            program.replace("http://localhost:8000", deployment.url)
        )
        client = await run(f"{bin_ / 'python'} program.py")

    verbs = {line.split()[1] for line in commands}
    assert verbs == {"submit", "jobs", "status", "watch", "results", "retry", "cancel", "top"}
    some_failed = ("submit requests.ndjson", "watch", "retry")
    for line, code in codes.items():
        assert code == (3 if line.removeprefix("orchestrator ").startswith(some_failed) else 0), (
            line
        )
    assert client == (0, "0 echo: one\n1 echo: two\n")


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
