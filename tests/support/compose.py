"""Runs the deployment in containers, with Docker and Compose."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from support.documents import PROJECT
from support.stack import Stack

ENV_EXAMPLE = PROJECT / ".env.example"
SETTINGS = set(re.findall(r"^#?([A-Z_]+)=", ENV_EXAMPLE.read_text(), re.MULTILINE))
PYTHON_IMAGE = os.environ.get("PYTHON_IMAGE", "python:3.13-slim")
REDIS_IMAGE = os.environ.get("REDIS_IMAGE", "redis:8-alpine")
LIMIT = 10
REPLICAS = 3
LEASE_S = 8
BUILD_S = 600


def run(
    *argv: str,
    check: bool = True,
    environment: dict[str, str] | None = None,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv, check=False, capture_output=True, text=True, env=environment, timeout=timeout_s
    )
    if check and done.returncode:
        pytest.fail(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


async def docker(*argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, "docker", *argv, check=check)


async def inspect(container: str) -> dict[str, Any]:
    described: dict[str, Any] = json.loads((await docker("inspect", container)).stdout)[0]
    return described


@dataclass(frozen=True, slots=True)
class Compose:
    """Runs the deployment, with the simulator, as one compose project."""

    command: tuple[str, ...]
    environment: dict[str, str]

    def __call__(self, *argv: str, timeout_s: float = 120) -> str:
        done = run(*self.command, *argv, environment=self.environment, timeout_s=timeout_s)
        return done.stdout.strip()

    def url(self, service: str, port: int) -> str:
        return f"http://{self('port', service, str(port))}"

    async def containers(self, service: str) -> list[str]:
        return (await asyncio.to_thread(self, "ps", "-q", service)).split()

    async def scale(self, workers: int) -> None:
        await asyncio.to_thread(self, "up", "-d", "--no-build", "--scale", f"worker={workers}")


def require(image: str) -> None:
    if not shutil.which("docker"):
        pytest.skip("docker is not installed")
    if run("docker", "info", check=False).returncode:
        pytest.skip("no Docker engine is running")
    missing = run("docker", "image", "inspect", image, check=False).returncode
    if missing and run("docker", "pull", "-q", image, check=False, timeout_s=BUILD_S).returncode:
        pytest.skip(f"the image {image} cannot be pulled")


def compose_command() -> tuple[str, ...]:
    """Returns the command of Compose: a plugin of docker (v2), or a separate program (v1)."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]) and not run(*command, "version", check=False).returncode:
            return command
    pytest.skip("neither `docker compose` nor `docker-compose` is installed")


def with_simulator() -> dict[str, Any]:
    """Returns the Compose override that adds the simulator.

    The builds use the host's network, because a bridge network may not reach a package index.
    """
    build = {"network": "host"}
    simulator = {
        "build": {
            "context": str(PROJECT),
            "dockerfile": "Dockerfile.worker",
            "args": {"PYTHON_IMAGE": PYTHON_IMAGE},
            **build,
        },
        "command": ["python", "-m", "cli.simulator", "--host", "0.0.0.0", "--port", "9000"],
        "healthcheck": {"disable": True},
        "ports": ["127.0.0.1::9000"],
    }
    return {
        "services": {"api": {"build": build}, "worker": {"build": build}, "simulator": simulator}
    }


async def has_workers(stack: Stack, count: int) -> bool:
    try:
        readiness = (await stack.api.get("/health/ready")).json()
    except httpx.TransportError:
        return False
    return bool(readiness["workers"] == count)
