"""A start that cannot succeed says why in one line, and names the setting."""

import asyncio
import json
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from support.command import run, up
from support.stack import chat, free_port

from cli.redis_start import RedisStartError, wait_for_redis
from shared.providers import PROVIDERS
from shared.queue.redis_keys import Keys
from shared.settings.unknown_settings import unknown_settings


async def test_a_data_directory_that_cannot_be_used(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    wrong = environment | {"DATA_DIR": str(tmp_path / "file")}

    of_up, of_worker, of_api = await asyncio.gather(
        run(wrong, "up", "--port", "0"),
        run(wrong, "-m", "worker", program=sys.executable),
        run(
            *(wrong, "-m", "uvicorn", "api.main:app", "--port", str(free_port())),
            program=sys.executable,
        ),
    )

    sentence = (
        f"can't use DATA_DIR {tmp_path}/file for the embedded Valkey: File exists."
        " Set DATA_DIR to a directory that you may write to, or set REDIS_URL."
    )
    assert of_up == (1, f"orchestrator: {sentence}\n")
    assert of_worker == (1, f"{sentence}\n")
    events = [json.loads(line)["event"] for line in of_api[1].splitlines()]
    assert sentence in events
    assert "Traceback" not in of_api[1]


def _server_after_a_free_port() -> socket.socket:
    """Returns a server whose port follows a free one, which no other process gets by chance.

    Linux and macOS choose the ports from 32768 on.
    """
    for port in range(20_001, 32_768, 2):
        with suppress(OSError):
            socket.create_server(("", port - 1)).close()
            return socket.create_server(("", port))
    raise AssertionError("no two ports are free")


async def test_a_port_for_the_metrics_that_is_in_use(environment: dict[str, str]) -> None:
    with _server_after_a_free_port() as taken:
        port = taken.getsockname()[1]

        of_up, of_worker = await asyncio.gather(
            run(environment | {"WORKER_METRICS_PORT": str(port - 1)}, "up", "--port", "0"),
            run(
                environment | {"WORKER_METRICS_PORT": str(port)},
                *("-m", "worker"),
                program=sys.executable,
            ),
        )

    sentence = (
        f"WORKER_METRICS_PORT: can't listen on port {port}: Address already in use."
        " Choose another port.\n"
    )
    assert of_up == (1, f"orchestrator: {sentence}")
    assert (of_worker[0], of_worker[1].splitlines(keepends=True)[-1]) == (1, sentence)
    assert "Traceback" not in of_worker[1]


async def test_an_address_that_this_machine_does_not_have(environment: dict[str, str]) -> None:
    for host, reason in (
        ("nosuch.invalid", "The host has no IPv4 address"),
        ("192.0.2.1", "Cannot assign requested address"),
    ):
        code, said = await run(environment | {"ALLOW_KEYLESS": "true"}, "up", "--host", host)

        advice = "Choose another address with --host."
        assert code == 1
        assert said == f"orchestrator: can't listen on {host}:8000: {reason}. {advice}\n"


async def test_a_redis_that_does_not_answer() -> None:
    """`orchestrator up` waits in the same way, for 30 s."""
    said: list[str] = []

    with pytest.raises(RedisStartError) as failed:
        await wait_for_redis("redis://:secret@127.0.0.1:9", Keys("x:"), 1, said.append)

    [first], last = said, str(failed.value)
    assert first.startswith("Redis at 127.0.0.1:9 is unavailable: ")
    assert first.endswith("Waiting for Redis for up to 1 s.")
    assert last.startswith("Redis at 127.0.0.1:9 is unavailable: ")
    assert "Start Redis, or correct REDIS_URL." in last
    assert "secret" not in first + last


async def test_a_file_of_settings_that_is_not_text(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(b"LOG_LEVEL=\xff")

    code, output = await run(environment, "up", directory=tmp_path)

    assert (code, output) == (
        1,
        f"orchestrator: wrong settings\n{tmp_path}/.env: the file must be UTF-8\n",
    )


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("MAX_CONCURENT_REQUESTS", "Did you mean MAX_CONCURRENT_REQUESTS?"),
        ("REDIS_URI", "Did you mean REDIS_URL?"),
        ("DATADIR", "Did you mean DATA_DIR?"),
        ("openroter_api_key", "Did you mean OPENROUTER_API_KEY?"),
        ("OLAMA_BASE_URL", "Did you mean OLLAMA_BASE_URL?"),
        ("ORCHESTRATOR_APIKEY", "Did you mean ORCHESTRATOR_API_KEY?"),
        ("GPU_1_BASE_URL", "There is no provider gpu_1; add it to"),
        ("MAX_RETRIES", None),
        ("PATH", None),
        ("OPENAI_TIMOUT", "Did you mean OPENAI_TIMEOUT?"),
        ("ANTROPIC_API_KEY", "Did you mean ANTHROPIC_API_KEY?"),
        ("HF_TOKEN", None),
        ("EXA_API_KEY", None),
        ("OPENAI_API_BASE", None),
        ("HUGGINGFACE_TOKEN", None),
        ("OLLAMA_LOAD_TIMEOUT", None),
        ("KUBERNETES_SERVICE_HOST", None),
        ("ORCHESTRATOR_SERVICE_PORT", None),
    ],
)
def test_names_that_look_like_settings(
    name: str, advice: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = unknown_settings({name: "1"}, PROVIDERS)

    if advice is None:
        assert said == []
    else:
        [sentence] = said
        assert sentence.startswith(f"{name.upper()} is not a setting, and has no effect. {advice}")


async def test_up_warns_once_of_a_wrong_name_and_ends_without_an_error(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Also checks that the log says which Redis runs, and that Ctrl-C ends an open stream."""
    (tmp_path / ".env").write_text("MAX_CONCURENT_REQUESTS=100\n")
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        async with up(
            environment | {"SHUTDOWN_GRACE_SECONDS": "0.5"},
            "--simulate",
            directory=tmp_path,
            stderr=stderr,
        ) as deployment:
            url = deployment.url
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                body = json.dumps(chat("x", model="sim-latency-60000"))
                accepted = await client.post(
                    "/jobs", content=body, headers={"content-type": "application/x-ndjson"}
                )
                job_id = accepted.json()["job_id"]
                async with client.stream("GET", f"/jobs/{job_id}/results") as stream:
                    deployment.process.send_signal(signal.SIGINT)
                    with pytest.raises(httpx.RemoteProtocolError):
                        await stream.aread()
            assert await asyncio.wait_for(deployment.process.wait(), 60) == 0

    warning, *rest = errors.read_text().splitlines()
    assert warning == (
        "warning: MAX_CONCURENT_REQUESTS is not a setting, and has no effect."
        " Did you mean MAX_CONCURRENT_REQUESTS?"
    )
    lines = [json.loads(line) for line in rest]
    assert [line["redis"] for line in lines if line["event"] == "api_started"] == ["embedded"]
    assert {line["event"] for line in lines} == {
        "api_started",
        "worker_started",
        "job_accepted",
        "stream_interrupted",
        "worker_stopped",
    }
    assert "error" not in {line["level"] for line in lines}
