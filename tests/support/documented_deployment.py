"""Runs the commands of documents against one deployment."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from support.command import up
from support.processes import PIPE, STDOUT, start


@dataclass(frozen=True, slots=True)
class Deployment:
    """Runs the commands of documents against one `orchestrator up --simulate`."""

    url: str
    output: str
    environment: dict[str, str]

    def run(self, line: str, directory: Path, **variables: str) -> tuple[int, str]:
        """Runs a command line and returns its exit code and all output."""
        environment = self.environment | variables
        if line.startswith("orchestrator "):
            argv = shlex.split(re.sub(r"\$(\w+)", lambda name: environment[name[1]], line))
            return asyncio.run(_orchestrator(argv[1:], environment, directory))
        address = self.url if "http://localhost:8000" in line else self.url.removeprefix("http://")
        done = subprocess.run(
            ["bash", "-c", re.sub("(http://)?localhost:8000", address, line)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout.decode()

    def submit(self, lines: str) -> str:
        """Submits NDJSON and returns the id of the job."""
        accepted = httpx.post(
            f"{self.url}/jobs", content=lines, headers={"Content-Type": "application/x-ndjson"}
        )
        job_id: str = accepted.json()["job_id"]
        return job_id


async def _orchestrator(
    argv: list[str], environment: dict[str, str], directory: Path
) -> tuple[int, str]:
    """Runs the command without a new interpreter, whose start would take most of the time."""
    process = await start(
        *("cli.main:main", *argv),
        environment=environment,
        directory=directory,
        stdout=PIPE,
        stderr=STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return await process.wait(), output.decode()


@contextmanager
def started(directory: Path | None = None) -> Iterator[Deployment]:
    """Starts a deployment like a new installation: its only settings are in the `.env` of
    `directory`, if there is one."""
    with tempfile.TemporaryDirectory(prefix="up-", ignore_cleanup_errors=True) as home:
        kept = {name: os.environ[name] for name in ("LANG", "PYTHONPATH") if name in os.environ}
        environment = kept | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": home,
            "DATA_DIR": f"{home}/.llm-batch-orchestrator",  # the default, which tests can't rely on
            "COLUMNS": "120",
        }
        with asyncio.Runner() as runner:
            running = up(environment, "--simulate", directory=directory or Path(home))
            ready = runner.run(running.__aenter__())
            try:
                yield Deployment(
                    ready.url,
                    ready.output.replace(home, "/home/you"),
                    environment | {"ORCHESTRATOR_URL": ready.url},
                )
            finally:
                runner.run(running.__aexit__(None, None, None))
