"""The commands that use a deployment, as a user types them."""

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import job, lines
from stack import Stack, chat, eventually

Start = Callable[..., Awaitable[Stack]]


class Orchestrator:
    """The command, in a directory of its own."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self._environment = {
            "PATH": "/usr/bin:/bin",
            "ORCHESTRATOR_URL": str(stack.api.base_url),
            "PYTHONPATH": ":".join(sys.path),
        }
        self.directory = directory

    async def start(self, *argv: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from cli.main import main; main()", *argv),
            env=self._environment,
            cwd=self.directory,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *argv: str, stdin: bytes = b"") -> tuple[int | None, str, str]:
        """Exit code, output, errors."""
        process = await self.start(*argv)
        async with asyncio.timeout(60):
            output, errors = await process.communicate(stdin)
        return process.returncode, output.decode(), errors.decode()


@pytest.fixture
async def deployment(stack: Start) -> Stack:
    return await stack(workers=2)


@pytest.fixture
def orchestrator(deployment: Stack, tmp_path: Path) -> Orchestrator:
    return Orchestrator(deployment, tmp_path)


def parsed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_ndjson_is_submitted_and_its_results_are_written_in_order(
    orchestrator: Orchestrator,
) -> None:
    contents = [f"line {n}" for n in range(250)]
    (orchestrator.directory / "in.ndjson").write_bytes(lines(contents))

    code, output, errors = await orchestrator("submit", "in.ndjson", "-o", "out.ndjson")

    assert (code, output) == (0, ""), errors
    items = parsed((orchestrator.directory / "out.ndjson").read_text())
    assert [item["content"] for item in items] == [f"echo: {text}" for text in contents]
    assert "250 of 250 answered" in errors
    assert not (orchestrator.directory / "out.ndjson.part").exists()


@pytest.mark.parametrize("kind", ["batch", "ndjson", "prompts", "stdin"])
async def test_every_kind_of_input(orchestrator: Orchestrator, kind: str) -> None:
    prompts, argv, stdin = ["first", "second"], ["in"], b""
    match kind:
        case "batch":
            text = json.dumps({"requests": [chat(prompt) for prompt in prompts]}, indent=2)
        case "ndjson":
            text = lines(prompts).decode()
        case _:
            text = "first\n\nsecond\n"
            argv += ["--provider", "ollama", "--model", "m", "--system", "be brief"]
    if kind == "stdin":
        argv[0], stdin = "-", text.encode()
    else:
        (orchestrator.directory / "in").write_text(text)

    code, output, errors = await orchestrator("submit", *argv, "-o", "-", stdin=stdin)

    assert code == 0, errors
    items = parsed(output)
    assert [item["content"] for item in items] == ["echo: first", "echo: second"]
    assert {item["provider"] for item in items} == {
        "ollama" if kind in {"prompts", "stdin"} else "openrouter"
    }


async def test_interrupted_and_started_again_it_goes_on_with_the_same_job(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    await deployment.simulate(latency_ms=100)
    (orchestrator.directory / "in").write_bytes(lines(str(n) for n in range(60)))
    argv = ("submit", "in", "-o", "out")
    first = await orchestrator.start(*argv)
    await deployment.in_flight(10)

    first.send_signal(signal.SIGINT)
    _, errors = await first.communicate()
    again = await orchestrator(*argv)

    assert first.returncode == 130
    assert "goes on" in errors.decode()
    assert again[0] == 0
    assert len(parsed((orchestrator.directory / "out").read_text())) == 60
    assert (await deployment.stats())["total"] == 60
    assert len((await deployment.api.get("/jobs")).json()["jobs"]) == 1


async def test_a_job_with_failures_says_so_and_is_retried(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    body = lines(["a", "b"]) + lines(["c"], model="sim-404")
    (orchestrator.directory / "in").write_bytes(body)

    code, output, _ = await orchestrator("submit", "in", "--json")
    [summary] = parsed(output)
    job_id = summary["job_id"]
    retried, output, _ = await orchestrator("retry", job_id, "--json", "-o", "out")
    [after] = parsed(output)
    failed = await orchestrator("results", job_id, "--status", "failed")

    assert (code, retried, failed[0]) == (3, 3, 0)
    assert (summary["successful"], summary["failed"]) == (2, 1)
    assert (after["retry_of"], after["total_requests"]) == (job_id, 1)
    assert [item["index"] for item in parsed(failed[1])] == [2]
    assert (await job(deployment.api, f"/jobs/{job_id}"))["retried_as"] == after["job_id"]


async def test_jobs_status_watch_and_cancel(deployment: Stack, orchestrator: Orchestrator) -> None:
    await deployment.simulate(latency_ms=60_000)
    (orchestrator.directory / "in").write_bytes(lines(["a", "b"]))
    code, output, errors = await orchestrator("submit", "in", "--no-wait", "--json")
    job_id = json.loads(output)["job_id"]
    await deployment.in_flight(2)
    watching = await orchestrator.start("watch", job_id)

    shown = await orchestrator("status", job_id)
    listed = await orchestrator("jobs")
    as_json = await orchestrator("jobs", "--json", "--status", "running")
    cancelled = await orchestrator("cancel", job_id)
    _, watched = await watching.communicate()

    assert code == 0, errors
    assert "running: 0 of 2 answered" in shown[1]
    assert job_id in listed[1]
    assert [entry["job_id"] for entry in parsed(as_json[1])] == [job_id]
    assert cancelled[1].startswith("cancelled: ")
    assert watching.returncode == 3
    assert "cancelled: 0 of 2 answered" in watched.decode()


@pytest.mark.parametrize(
    ("text", "argv", "said"),
    [
        ("", [], "there are no requests"),
        ("hello\n", [], "request 1 is no JSON object with a provider"),
        ('{"provider": "openrouter"}', [], "line 1 model: Field required"),
        ("hello\n", ["--provider", "ollama"], "both --provider and --model"),
        ("hello\n", ["--system", "x"], "--system goes with"),
        ("hello\n", ["--provider", "nobody", "--model", "m"], "should be 'openrouter' or 'ollama'"),
        (None, [], "No such file"),
    ],
)
async def test_wrong_input_is_named(
    orchestrator: Orchestrator, text: str | None, argv: list[str], said: str
) -> None:
    if text is not None:
        (orchestrator.directory / "in").write_text(text)

    code, output, errors = await orchestrator("submit", "in", *argv)

    assert (code, output) == (1, "")
    assert said in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "argv", [["status"], ["watch"], ["results"], ["cancel"], ["retry"]], ids=lambda argv: argv[0]
)
async def test_an_unknown_job_is_an_error(orchestrator: Orchestrator, argv: list[str]) -> None:
    code, output, errors = await orchestrator(*argv, "nobody")

    assert (code, output) == (1, "")
    assert "no such job" in errors


async def test_a_reader_that_closes_the_pipe_is_no_error(
    orchestrator: Orchestrator,
) -> None:
    (orchestrator.directory / "in").write_bytes(lines(str(n) for n in range(2000)))
    _, output, _ = await orchestrator("submit", "in", "--json")
    process = await orchestrator.start("results", json.loads(output)["job_id"])
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 — as `head` does

    async def over() -> bool:
        return process.returncode is not None

    await eventually(over)
    assert process.stderr is not None
    assert await process.stderr.read() == b""
