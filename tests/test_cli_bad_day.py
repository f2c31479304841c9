"""Tests the commands where something is wrong: the locale, the disk, the address, the key."""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.command import ORCHESTRATOR, Orchestrator, execute
from support.jobs import job_ids, lines, parsed
from support.raw_server import listening
from support.stack import Stack, Start

PROMPTS = ("--provider", "ollama", "--model", "m")
EMOJI = "naïve 😀"


async def _shell(orchestrator: Orchestrator, script: str) -> tuple[int, str, str]:
    return await execute(
        orchestrator.environment,
        *("-c", script),
        directory=orchestrator.directory,
        program="bash",
    )


# The locale and the disk


@pytest.fixture(scope="module")
def latin1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Compiles a locale whose encoding is ISO 8859-1."""
    directory = tmp_path_factory.mktemp("locales")
    if not shutil.which("localedef"):
        pytest.skip("there is no localedef")
    done = subprocess.run(
        ["localedef", "-c", "-i", "en_US", "-f", "ISO-8859-1", directory / "en_US.latin1"],
        capture_output=True,
        check=False,
    )
    variables = {"LC_ALL": "en_US.latin1", "LOCPATH": str(directory)}
    if done.returncode > 1 or not (directory / "en_US.latin1").exists():
        pytest.skip("this system has no sources of locales")
    charmap = subprocess.check_output(["locale", "charmap"], env=os.environ | variables)
    assert charmap == b"ISO-8859-1\n"
    return variables


async def test_results_are_utf8_in_a_locale_of_8_bits(
    orchestrator: Orchestrator, latin1: dict[str, str]
) -> None:
    (orchestrator.directory / "in").write_text(f"{EMOJI}\n", "utf-8")
    environment = orchestrator.environment | latin1
    argv = ("submit", "in", *PROMPTS)

    to_file = await execute(environment, *argv, "-o", "out", directory=orchestrator.directory)
    to_stdout = await execute(environment, *argv, "-o", "-", directory=orchestrator.directory)

    assert (to_file[0], to_stdout[0]) == (0, 0), to_file[2]
    for text in ((orchestrator.directory / "out").read_text("utf-8"), to_stdout[1]):
        assert [item["content"] for item in parsed(text)] == [f"echo: {EMOJI}"]


async def test_messages_are_utf8_in_a_locale_of_8_bits(
    orchestrator: Orchestrator, latin1: dict[str, str]
) -> None:
    environment = orchestrator.environment | latin1
    name = "größe-😀.csv"
    (orchestrator.directory / name).write_text("id,text\n1,x\n", "utf-8")

    code, _, errors = await execute(
        environment, "submit", name, *PROMPTS, directory=orchestrator.directory
    )

    assert code == 2
    assert "Traceback" not in errors
    assert "CSV with the columns id, text" in errors


async def test_a_full_disk_keeps_what_was_fetched_and_says_where(
    orchestrator: Orchestrator,
) -> None:
    (orchestrator.directory / "in").write_bytes(lines(str(n) for n in range(100)))
    _, output, _ = await orchestrator("submit", "in", "--json")
    job_id = json.loads(output)["job_id"]

    code, _, errors = await _shell(
        orchestrator, f"ulimit -f 16; exec {ORCHESTRATOR} results {job_id} -o out"
    )

    part = orchestrator.directory / "out.part"
    kept = parsed(part.read_text())
    assert code == 1
    assert 0 < len(kept) < 100
    assert [item["index"] for item in kept] == list(range(len(kept)))
    assert f"{len(kept)} results so far are in {part}\n" in errors
    assert "orchestrator: out: File too large. Nothing is lost." in errors
    assert f"orchestrator results {job_id} -o FILE" in errors
    assert not (orchestrator.directory / "out").exists()


async def test_a_stdout_that_is_full_is_one_line(orchestrator: Orchestrator) -> None:
    (orchestrator.directory / "in").write_bytes(lines(["x"]))
    _, output, _ = await orchestrator("submit", "in", "--json")
    job_id = json.loads(output)["job_id"]

    for command in (f"results {job_id}", f"status {job_id}", "jobs --json", "top --json"):
        code, _, errors = await _shell(orchestrator, f"exec {ORCHESTRATOR} {command} > /dev/full")

        assert (code, errors.count("\n")) == (1, 1), (command, errors)
        assert errors.startswith("orchestrator: stdout: No space left on device.")


async def test_an_output_that_cannot_be_written_is_refused_before_anything_is_paid(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    (orchestrator.directory / "in").write_bytes(lines(["x"]))
    (orchestrator.directory / "directory").mkdir()

    for output, said in (("no/out", "no such directory"), ("directory", "is a directory")):
        code, _, errors = await orchestrator("submit", "in", "-o", output)

        assert code == 1
        assert said in errors
    assert await job_ids(deployment) == []


# The address and the key


@asynccontextmanager
async def another_service(answer: bytes) -> AsyncIterator[str]:
    """Runs a server that answers every request with `answer`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with listening(serve) as url:
        yield url


NOT_FOUND = b'HTTP/1.1 404 Not Found\r\ncontent-length: 22\r\n\r\n{"detail":"Not Found"}'
MOVED = (
    b"HTTP/1.1 301 Moved Permanently\r\nlocation: https://a.example/\r\ncontent-length: 0\r\n\r\n"
)
SET_URL = "Set ORCHESTRATOR_URL to the address of the API itself."
PAGE = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (NOT_FOUND, "404 Not Found. The server is not an orchestrator: check ORCHESTRATOR_URL."),
        (MOVED, f"301 Moved Permanently to https://a.example/. {SET_URL}"),
        (PAGE, ""),
    ],
    ids=["not found", "redirect", "page"],
)
async def test_another_service_at_the_address_is_named(
    environment: dict[str, str], answer: bytes, said: str
) -> None:
    async with another_service(answer) as url:
        code, _, errors = await execute(environment | {"ORCHESTRATOR_URL": url}, "jobs")

    whole = (
        f"GET {url}/jobs answered {said}"
        if said
        else f"{url}/jobs did not return a valid orchestrator response. Check ORCHESTRATOR_URL."
    )
    assert (code, errors) == (1, f"orchestrator: {whole}\n")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_nothing_at_the_address_is_named(environment: dict[str, str], host: str) -> None:
    code, _, errors = await execute(environment | {"ORCHESTRATOR_URL": f"http://{host}:9"}, "jobs")

    assert code == 1
    assert errors == (
        f"orchestrator: Can't reach the API at http://{host}:9 (Connection refused)."
        " Start it with `orchestrator up`, or set ORCHESTRATOR_URL.\n"
    )


async def test_a_missing_and_a_wrong_key_name_the_variable(stack: Start, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"k").hexdigest()
    deployment = await stack(workers=1, key="k", API_KEYS=f"ada:{digest}")
    orchestrator = Orchestrator(deployment, tmp_path)
    url = str(deployment.api.base_url)

    _, _, missing = await orchestrator("jobs")
    wrong = await execute(orchestrator.environment | {"ORCHESTRATOR_API_KEY": "x"}, "jobs")

    asked = f"orchestrator: GET {url}/jobs answered 401 Unauthorized."
    assert missing == (
        f"{asked} The server needs an API key: set ORCHESTRATOR_API_KEY to your API key.\n"
    )
    assert wrong[2] == (
        f"{asked} The server refused the API key: set ORCHESTRATOR_API_KEY to the key of this"
        " API.\n"
    )
