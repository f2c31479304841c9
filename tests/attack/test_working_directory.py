"""Tests that the project runs in a directory whose files have the names of its own modules."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.command import run, up
from support.stack import chat

PROJECT = Path(__file__).parents[2]
OURS = ("api", "cli", "shared", "worker", "benchmarks", "orchestrator_client")
OTHERS = ("redis", "queue", "types", "uvicorn", "httpx", "pydantic")

SCRIPT = f"""
from orchestrator_client import Client

client = Client()
job = client.submit([{chat("hello")!r}])
print([item.content for item in client.results(job.job_id)])
"""


def make_traps(directory: Path, *names: str) -> None:
    """Makes packages and modules with these names. Importing them fails."""
    for name in names:
        text = f"raise ImportError('a user has this {name}')\n"
        (directory / name).mkdir()
        (directory / name / "__init__.py").write_text(text)
        (directory / f"{name}.py").write_text(text)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    make_traps(tmp_path, *OURS, *OTHERS)
    (tmp_path / ".env").write_text("DASHBOARD=false\n")
    return tmp_path


@pytest.fixture
async def url(environment: dict[str, str], directory: Path) -> AsyncIterator[str]:
    async with up(environment, "--simulate", directory=directory) as deployment:
        assert "page " not in deployment.output  # .env is read
        yield deployment.url


async def test_up_and_the_commands_run_in_it(
    environment: dict[str, str], directory: Path, url: str
) -> None:
    (directory / "prompts.txt").write_text("hello\n")
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        answer = (await client.post("/batch", json={"requests": [chat("hello")]})).json()
        page = await client.get("/")
    code, output = await run(
        environment | {"ORCHESTRATOR_URL": url},
        *("submit", "prompts.txt", "--provider", "ollama", "--model", "m", "-o", "-"),
        directory=directory,
    )

    assert answer["responses"][0]["content"] == "echo: hello"
    assert page.status_code == 404
    assert code == 0, output
    assert "echo: hello" in output


async def test_the_client_runs_in_it(
    environment: dict[str, str], directory: Path, url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Tests a script whose folder contains traps with the names of the server's packages.

    Python imports from the folder of the script first, so `queue` cannot be a trap: the standard
    library needs it.
    """
    folder = tmp_path_factory.mktemp("script")
    make_traps(folder, "api", "cli", "shared", "worker", "redis")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script)),
        cwd=directory,
        env=environment | {"ORCHESTRATOR_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()

    assert output == b"['echo: hello']\n"


async def test_demo_runs_in_it(environment: dict[str, str], directory: Path) -> None:
    code, output = await run(environment, "demo", directory=directory)

    assert code == 0, output


@pytest.mark.parametrize("argv", [["worker"], ["uvicorn", "api.main:app"], ["cli.simulator"]])
async def test_processes_that_are_started_by_hand_import_nothing_from_it(
    environment: dict[str, str], tmp_path: Path, argv: list[str]
) -> None:
    """A wrong setting and a wrong option end the processes after their imports."""
    make_traps(tmp_path, "shared", "redis", "arq", "httpx", "orjson")
    option = ["--config", "{"] if argv == ["cli.simulator"] else []
    code, output = await run(
        environment | {"MAX_RETRIES": "x"},
        *("-m", *argv, *option),
        directory=tmp_path,
        program=sys.executable,
    )

    assert code > 0
    assert ("MAX_RETRIES: " if not option else "error: ") in output
    assert "a user has this" not in output


@pytest.mark.parametrize(
    "argv", [["worker"], ["uvicorn", "--app-dir", str(PROJECT), "api.main:app"]]
)
async def test_processes_that_do_not_look_in_it_import_no_package_from_it(
    environment: dict[str, str], directory: Path, argv: list[str]
) -> None:
    """A wrong setting ends the processes after their imports."""
    code, output = await run(
        environment | {"MAX_RETRIES": "x"},
        *("-P", "-m", *argv),
        directory=directory,
        program=sys.executable,
    )

    assert code > 0
    assert "MAX_RETRIES: " in output
    assert "a user has this" not in output
