"""Runs every command and program that README and `docs/` show, and compares the output."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.documented_deployment import Deployment, started
from support.documents import DOCUMENTS, PROJECT, Command, commands, is_shown, name_of, programs
from support.stack import chat

from shared.redis.client import connect
from shared.redis.embedded import running_url
from shared.settings import Settings

SET_BY_TEST = "the test sets it"
MINUTES = "takes minutes"
MAKE = "test_make_knows_its_targets"
UP = "orchestrator up --simulate"
NOT_RUN = {
    "python3 -m venv .venv && . .venv/bin/activate": "the tests run in an environment",
    "pip install -e .": "the tests run in an installation",
    "pip install -e . openai pandas": "the same, and both are part of '.[test]'",
    "pip install -e '.[otel]'": "part of '.[test]'",
    "pip install ./client": "test_client_package.py",
    "pip install pandas": "part of '.[test]'",
    "pip install -e '.[benchmarks]' && python -m benchmarks": ".ci/run, in small",
    "python -m benchmarks sustained": MINUTES,
    "python -m benchmarks soak": MINUTES,
    "FOREIGN_SERVERS=DIRECTORY python -m benchmarks providers": MINUTES,
    "FOREIGN_SERVERS=DIRECTORY python -m benchmarks openai": MINUTES,
    "python -m benchmarks memory": MINUTES,
    "CI_DEPTH=full pytest -m chaos": ".ci/run, without CI_DEPTH",
    UP: "test_up_prints_what_is_shown",
    "OPENROUTER_API_KEY=sk-or-… orchestrator up": "test_cli.py, but for the key",
    "OPENROUTER_MAX_CONCURRENT_REQUESTS=100 OPENROUTER_API_KEY=sk-or-… orchestrator up": (
        "test_cli.py, but for the key"
    ),
    "ollama pull llama3.2:3b && orchestrator up": "needs Ollama",
    "docker compose up --build": "test_containers.py",
    "docker compose up --scale worker=4": "test_containers.py",
    "docker compose -f docker-compose.yml -f docker-compose.observability.yml up --build": (
        "test_containers.py"
    ),
    "uvicorn api.main:app": "support.stack starts it for most tests",
    "python -m worker": "support.stack starts it for most tests",
    "JOB=…": SET_BY_TEST,
    "KEY=…": SET_BY_TEST,
    "export ORCHESTRATOR_URL=http://localhost:8000": SET_BY_TEST,
    "export ORCHESTRATOR_API_KEY=orc_…": SET_BY_TEST,
    "make setup": MAKE,
    "make test": MAKE,
    "make check": MAKE,
    "make docs": MAKE,
    "make demo": MAKE,
}
DEMO = "orchestrator demo"
SOME_FAILED = 3
EXIT_CODES = {
    "orchestrator submit requests.ndjson -o results.ndjson": SOME_FAILED,
    "orchestrator watch $JOB": SOME_FAILED,
    "orchestrator retry $JOB -o again.ndjson": SOME_FAILED,
}

GUIDES = PROJECT / "docs" / "guides"
WEBHOOKS, API_KEYS = GUIDES / "webhooks.md", GUIDES / "api-keys.md"
NEEDS_SETTINGS = (WEBHOOKS, API_KEYS)  # each tells its reader which, so it has its own test

# A page that says in words what its file looks like. All other files are shown: see `prepare`.
DESCRIBED = {
    "questions.csv": "id,question\n1,What is a lease?\n2,What is a lane?\n",
}
REQUESTS = next(
    command.output
    for command in commands(GUIDES / "large-uploads.md")
    if command.line == "cat requests.ndjson"
)
# It takes 12 s: 600 calls of 200 ms for each of two providers, 10 at a time.
LONG_JOB = [chat("a", provider=provider) for provider in ("openrouter", "ollama")] * 600


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with started() as deployment:
        yield deployment


@pytest.fixture(scope="module")
def demo(deployment: Deployment) -> tuple[int, str]:
    """Runs `orchestrator demo` once, for all documents that show it."""
    return deployment.run(DEMO, Path(deployment.environment["HOME"]))


@pytest.fixture
def job_id(deployment: Deployment) -> str:
    """Returns the id of a job that has completed; one of its three requests has failed."""
    job_id = deployment.submit(REQUESTS)
    results = httpx.get(f"{deployment.url}/jobs/{job_id}/results", timeout=30)
    assert len(results.text.splitlines()) == len(REQUESTS.splitlines())
    return job_id


def prepare(document: Path, directory: Path) -> None:
    """Makes the files that a reader has: those that the document or a page that it links to shows
    with `cat`, or writes with `printf`."""
    for name, text in DESCRIBED.items():
        if name in document.read_text():
            (directory / name).write_text(text)
    for page in (
        *_linked_pages(document),
        document,
    ):  # its own files replace the files of other pages
        for command in commands(page):
            if command.line.startswith("cat "):
                (directory / command.line.removeprefix("cat ")).write_text(f"{command.output}\n")
            elif command.line.startswith("printf "):
                subprocess.run(["bash", "-c", command.line], cwd=directory, check=True)


def _linked_pages(document: Path) -> Iterator[Path]:
    for link in re.findall(r"\]\(([\w./-]+\.md)", document.read_text()):
        page = (document.parent / link).resolve()
        if page.parent == GUIDES or page.name == "quick-start.md":
            yield page


@pytest.mark.parametrize(
    ("shown", "actual", "same"),
    [
        ("2 of 3 in 0.3 s", "20 of 31 in 1,024 s", True),
        ("2 of 3 in 0.3 s", "2 of 3 in 0.3 s, 1 failed", False),
        ("job 0123456789abcdef0123456789abcdef", f"job {'f' * 32}", True),
        ("job 0123456789abcdef0123456789abcdef", "job f", False),
        ('{"a":1,\n"b":…}', '{"a":2,"b":[3]}', True),
        ('{"a":1,\n"b":…}', '{"a":2,"c":[3]}', False),
        ("a   b\n─────", "a b\n──", True),
        ("first\n…\nlast", "first\nlast", True),
        ("first\n…\nlast", "first\nand\nmore\nlast", True),
        ("first\n…\nlast", "first\nlast\nmore", False),
        ("first\n…", "first and more", False),
        ("…\nlast", "last", True),
        ("…\nlast", "first\nlast", True),
        ("…\nlast", "not last", False),
    ],
)
def test_an_output_is_compared_but_for_its_numbers(shown: str, actual: str, *, same: bool) -> None:
    assert is_shown(shown, actual) is same


def _to_run(document: Path) -> list[Command]:
    return [command for command in commands(document) if command.line not in NOT_RUN]


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if _to_run(d) and d not in NEEDS_SETTINGS], ids=name_of
)
def test_commands_do_what_is_shown(
    deployment: Deployment,
    demo: tuple[int, str],
    tmp_path: Path,
    job_id: str,
    document: Path,
) -> None:
    prepare(document, tmp_path)
    for command in _to_run(document):
        if command.line == DEMO:
            _check(command, *demo)
        else:
            job = _running_job(deployment) if _cancels(command) else job_id
            _check(command, *deployment.run(command.line, tmp_path, JOB=job))


def _cancels(command: Command) -> bool:
    return "orchestrator cancel" in command.line or "-X DELETE" in command.line


def _running_job(deployment: Deployment) -> str:
    return deployment.submit("\n".join(map(json.dumps, LONG_JOB)))


def _check(command: Command, code: int, output: str) -> None:
    assert code == EXIT_CODES.get(command.line, 0), (command.line, output)
    if command.output:
        assert is_shown(command.output, output), f"$ {command.line}\n{output}"


def test_webhooks_are_set_up_as_their_page_says(tmp_path: Path) -> None:
    prepare(WEBHOOKS, tmp_path)
    secret, start, *submissions = commands(WEBHOOKS)
    assert secret.line.endswith(">> .env")
    assert start.line == UP
    subprocess.run(["bash", "-c", secret.line], cwd=tmp_path, check=True)

    with started(tmp_path) as deployment:
        for command in submissions:
            _check(command, *deployment.run(command.line, tmp_path))


def test_without_a_secret_a_webhook_is_refused_as_its_page_says(
    deployment: Deployment, tmp_path: Path
) -> None:
    prepare(WEBHOOKS, tmp_path)
    *_, command = commands(WEBHOOKS)

    _, output = deployment.run(command.line, tmp_path)

    assert "WEBHOOK_SECRET" in output


def test_api_keys_are_set_up_as_their_page_says(deployment: Deployment, tmp_path: Path) -> None:
    create, set_key, use = commands(API_KEYS)
    assert set_key.line == "KEY=…"
    code, output = deployment.run(create.line, tmp_path)
    _check(create, code, output)
    [key] = re.findall(r"orc_\S+", output)
    [setting] = re.findall(r"API_KEYS=\S+", output)
    (tmp_path / ".env").write_text(f"{setting}\n")

    with started(tmp_path) as closed:
        _check(use, *closed.run(use.line, tmp_path, KEY=key))
        assert "detail" in closed.run(use.line, tmp_path, KEY="wrong")[1]


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if programs(d)], ids=name_of)
def test_programs_do_what_is_shown(
    deployment: Deployment, tmp_path: Path, job_id: str, document: Path
) -> None:
    prepare(document, tmp_path)
    for number, program in enumerate(programs(document)):
        path = tmp_path / f"program{number}.py"
        text = program.line.replace("http://localhost:8000", deployment.url)
        path.write_text(re.sub("[0-9a-f]{32}", job_id, text))
        code, output = deployment.run(f"{sys.executable} {path.name}", tmp_path)

        assert code == 0, (program.line, output)
        assert _stripped(output) == _stripped(program.output)


def _stripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def test_every_command_of_the_orchestrator_is_shown() -> None:
    shown = {command.line for document in DOCUMENTS for command in commands(document)}
    words = {line.split()[1] for line in shown if line.startswith("orchestrator ")}
    verbs = {word for word in words if not word.startswith("-")}

    assert verbs == {
        *("demo", "up", "keys"),
        *("submit", "jobs", "status", "watch", "results", "retry", "cancel", "top"),
    }


def test_the_first_batch_has_every_field_that_is_shown(
    deployment: Deployment, tmp_path: Path
) -> None:
    [first] = [
        command
        for command in commands(PROJECT / "docs" / "quick-start.md")
        if command.line.startswith("curl")
    ]

    answer = json.loads(deployment.run(first.line, tmp_path)[1])

    assert [response["request_id"] for response in answer["responses"]] == ["req-1", "req-2"]
    assert set(re.findall(r'"(\w+)":', first.output)) == {*answer, *answer["responses"][0]}


def test_every_exception_is_still_needed() -> None:
    shown = {command.line for document in DOCUMENTS for command in commands(document)}

    assert NOT_RUN.keys() <= shown
    for reason in NOT_RUN.values():
        for name in re.findall(r"test_\w+\.py", reason):
            assert (PROJECT / "tests" / name).exists(), name
    assert EXIT_CODES.keys() <= shown


def test_up_prints_what_is_shown(deployment: Deployment) -> None:
    shown = [
        command.output
        for document in DOCUMENTS
        for command in commands(document)
        if command.line == UP and command.output
    ]

    assert shown
    assert all(is_shown(output, deployment.output) for output in shown), deployment.output


async def test_the_jobs_of_the_simulator_are_kept_apart(deployment: Deployment) -> None:
    """Checks that real providers, with another prefix, find no job that the simulator answered."""
    deployment.submit(json.dumps(chat("a")))
    url = running_url(Path(deployment.environment["DATA_DIR"]))
    assert url
    redis = connect(url, log_outages=False)
    keys = [key.decode() for key in await redis.keys()]
    await redis.aclose()

    prefix = f"{Settings.model_fields['key_prefix'].default}simulated:"
    assert keys
    assert [key for key in keys if not key.startswith(prefix)] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_knows_its_targets() -> None:
    shown = {command.line for document in DOCUMENTS for command in commands(document)}
    targets = [line.removeprefix("make ") for line in shown if line.startswith("make ")]

    listed = subprocess.run(["make"], cwd=PROJECT, capture_output=True, text=True, check=True)
    subprocess.run(["make", "--dry-run", *targets], cwd=PROJECT, capture_output=True, check=True)

    assert sorted(re.findall(r"^make (\w+)", listed.stdout, re.MULTILINE)) == sorted(targets)
