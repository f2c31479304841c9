"""Runs a deployment as processes, for the tests with OpenAI's client, which have no event loop."""

import asyncio
import json
import subprocess
from pathlib import Path
from shutil import copy
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import openai

from shared.queue.redis_keys import Keys
from support.foreign_server import installed
from support.stack import Stack

SCRIPTS = Path(__file__).parents[1] / "foreign"


class Deployment:
    """Runs an API, a worker and the simulator from the start of the context to its end."""

    def __init__(self, valkey_url: str, *, key: str | None = None, **settings: str) -> None:
        """Creates a deployment. `key` is an API key if `settings` have API_KEYS."""
        self._runner = asyncio.Runner()
        self._stack = Stack(
            valkey_url,
            Keys(f"test-{uuid4().hex}:"),
            {"MAX_RETRIES": "0", **settings},
            headers={"authorization": f"Bearer {key}"} if key else {},
        )
        self._clients: list[openai.OpenAI] = []

    def __enter__(self) -> Self:
        self._runner.__enter__()
        try:
            self._runner.run(self._stack.start(workers=1))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for client in self._clients:
            client.close()
        self._runner.run(self._stack.stop())
        self._runner.close()

    @property
    def base_url(self) -> str:
        return f"{self._stack.api.base_url}/v1"

    @property
    def simulator_url(self) -> str:
        return str(self._stack.simulator.base_url)

    @property
    def api_pid(self) -> int:
        return self._stack.api_process.pid

    def client(self, key: str = "none") -> Any:
        """Returns OpenAI's client, which checks the type of every field, and repeats nothing."""
        client = openai.OpenAI(
            base_url=self.base_url, api_key=key, _strict_response_validation=True, max_retries=0
        )
        self._clients.append(client)
        return client

    def simulate(self, **behaviour: object) -> None:
        """Sets the behaviour of the provider, and forgets its calls."""
        self._runner.run(self._stack.simulate(**behaviour))
        self._runner.run(self._stack.simulator.post("/_sim/reset"))

    def received(self) -> list[Any]:
        """Returns the bodies that the provider got."""
        calls = self._runner.run(self._stack.simulator.get("/_sim/received")).json()
        return [json.loads(call["body"]) for call in calls]

    def in_flight(self, count: int) -> None:
        """Waits until the provider has at least `count` calls in flight."""
        self._runner.run(self._stack.in_flight(count))


def run_javascript(name: str, deployment: Deployment, directory: Path, *, key: str = "js") -> None:
    """Runs a script of `tests/foreign` with OpenAI's client for JavaScript, until it has passed.

    Node looks for the package beside the script. Skips the test if the client is not installed.
    """
    (directory / "node_modules").symlink_to(installed("openai_js") / "node_modules")
    script = copy(SCRIPTS / name, directory)
    done = subprocess.run(
        ("node", script, deployment.base_url, key, deployment.simulator_url),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "passed"), done.stderr
