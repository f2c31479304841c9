"""Runs LiteLLM's proxy in front of the simulated provider, if it is installed."""

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fan_out import KEY
from benchmarks.fault_situations import LIMIT, Situation
from benchmarks.processes import answers, free_port

START_S = 300.0  # LiteLLM needs 20 s on a machine without load
_STOP_S = 10.0


class Proxy(NamedTuple):
    url: str
    pid: int


def missing() -> str | None:
    """Returns why the proxy cannot be started, or None if it is installed."""
    directory = os.environ.get("FOREIGN_SERVERS")
    if not directory:
        return "FOREIGN_SERVERS is not set: see tests/foreign/install"
    return None if _program(directory).exists() else f"it is not installed in {directory}"


def _program(directory: str) -> Path:
    return Path(directory) / "litellm" / "bin" / "litellm"


@asynccontextmanager
async def litellm(
    provider_url: str, situations: Sequence[Situation], *, limit: int = LIMIT
) -> AsyncIterator[Proxy]:
    """Runs the proxy with a model for each situation (`s0`, `s1` …), and the model `limited`.

    Raises RuntimeError if the proxy ends during its start, and TimeoutError after `START_S`.

    limit: limit of calls at once, for each model.
    """
    models = [_model(f"s{n}", provider_url, s, limit) for n, s in enumerate(situations)]
    models.append(_model("limited", provider_url, Situation("", 0, 0), limit))
    config = {
        "model_list": models,
        "router_settings": {"num_retries": 3},
        "general_settings": {"master_key": KEY},
    }
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="litellm-") as directory:
        # LiteLLM imports modules from the two parents of the working directory.
        home = Path(directory) / "parent" / "home"
        home.mkdir(parents=True)
        path = home / "config.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML, too
        process = await asyncio.create_subprocess_exec(
            _program(os.environ["FOREIGN_SERVERS"]),
            *("--config", path, "--host", "127.0.0.1", "--port", str(port)),
            cwd=home,
            # Otherwise LiteLLM downloads a list of prices when it starts.
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            ready = asyncio.create_task(answers(f"{url}/health/liveliness", START_S))
            ended = asyncio.create_task(process.wait())
            await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                ready.cancel()
                raise RuntimeError(f"LiteLLM ended with exit code {ended.result()}")
            await ready
            yield Proxy(f"{url}/v1", process.pid)
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()


def _model(name: str, provider_url: str, situation: Situation, limit: int) -> dict[str, Any]:
    limits: dict[str, Any] = {"max_parallel_requests": limit, "timeout": situation.timeout_s}
    if situation.rpm:
        limits["rpm"] = situation.rpm
    target = {"model": f"openai/{name}", "api_base": f"{provider_url}/v1", "api_key": "simulated"}
    return {"model_name": name, "litellm_params": target | limits}
