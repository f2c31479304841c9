"""Tests the `orchestrator` command as a person types it."""

import asyncio
import os
import re
import signal
import socket

import httpx
from support.command import processes, run, up
from support.stack import chat, eventually

from shared.version import VERSION


async def test_it_prints_its_version(environment: dict[str, str]) -> None:
    assert await run(environment, "--version") == (0, f"orchestrator {VERSION}\n")


async def test_demo_shows_a_batch_and_leaves_nothing_running(environment: dict[str, str]) -> None:
    code, output = await run(environment, "demo")

    assert code == 0
    assert "100/100" in output
    assert re.search(r"100 requests in [\d.]+ s: 99 answered, 1 failed", output)
    assert "model_not_found" in output
    assert "where time went" in output
    assert "Traceback" not in output


async def test_demo_shows_the_same_whatever_is_set_for_real_work(
    environment: dict[str, str],
) -> None:
    settings = {"MAX_RETRIES": "0", "OLLAMA_MAX_CONCURRENT_REQUESTS": "1"}

    code, output = await run(environment | settings, "demo")

    assert code == 0
    assert "99 answered, 1 failed" in output
    assert "(10 at a time per provider)" in output


async def test_up_serves_and_stops_at_ctrl_c(environment: dict[str, str]) -> None:
    async with up(environment, "--simulate") as deployment:
        async with httpx.AsyncClient(base_url=deployment.url, timeout=30) as client:
            batch = {"requests": [chat("hello"), chat("hi", provider="ollama")]}
            answer = (await client.post("/batch", json=batch)).json()
        deployment.process.send_signal(signal.SIGINT)
        code = await asyncio.wait_for(deployment.process.wait(), 60)

        assert [r["content"] for r in answer["responses"]] == ["echo: hello", "echo: hi"]
        assert code == 0
        await eventually(deployment.is_gone)


async def test_up_leaves_nothing_running_when_it_is_killed(environment: dict[str, str]) -> None:
    async with up(environment, "--simulate") as deployment:
        deployment.process.kill()
        await deployment.process.wait()

        await eventually(deployment.is_gone)


async def test_jobs_survive_a_restart(environment: dict[str, str]) -> None:
    async with up(environment, "--simulate") as deployment:
        async with httpx.AsyncClient(base_url=deployment.url, timeout=30) as client:
            answer = (await client.post("/batch", json={"requests": [chat("kept")]})).json()
        deployment.process.send_signal(signal.SIGTERM)
        await deployment.process.wait()
    async with (
        up(environment, "--simulate") as deployment,
        httpx.AsyncClient(base_url=deployment.url, timeout=30) as client,
    ):
        job = (await client.get(f"/jobs/{answer['job_id']}")).json()

    assert job["status"] == "completed"
    assert job["responses"] == answer["responses"]


async def test_a_killed_worker_is_restarted(environment: dict[str, str]) -> None:
    async with (
        up(environment, "--simulate", "--workers", "1") as deployment,
        httpx.AsyncClient(base_url=deployment.url, timeout=60) as client,
    ):
        batch = asyncio.create_task(
            client.post("/batch", json={"requests": [chat(f"{i}") for i in range(60)]})
        )
        assert deployment.process.stdout is not None
        await kill_worker_of(deployment.process.pid)

        line = await asyncio.wait_for(deployment.process.stdout.readline(), 60)

        assert line == b"worker 1 exited with code -9; restarting it\n"
        assert (await batch).json()["successful"] == 60


async def kill_worker_of(supervisor: int) -> None:
    [worker] = [
        pid
        for pid, parent, command in await processes()
        if parent == supervisor and command.endswith(" worker")
    ]
    os.kill(worker, signal.SIGKILL)


async def test_a_taken_port_is_named(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        code, output = await run(environment, "up", "--port", str(port))

    assert code == 1
    assert output == (
        f"orchestrator: can't listen on 127.0.0.1:{port}: Address already in use."
        " Choose another port with --port.\n"
    )


async def test_wrong_settings_are_named(environment: dict[str, str]) -> None:
    code, output = await run(environment | {"MAX_CONCURRENT_REQUESTS": "0"}, "demo")

    assert code == 1
    assert output == (
        "orchestrator: wrong settings\n"
        "MAX_CONCURRENT_REQUESTS: Input should be greater than or equal to 1\n"
    )


async def test_redis_url_is_used_instead_of_the_embedded_server(
    environment: dict[str, str], valkey_url: str
) -> None:
    code, output = await run(environment | {"REDIS_URL": valkey_url}, "demo")

    assert code == 0, output
    assert os.listdir(environment["DATA_DIR"]) == []  # noqa: PTH208
