"""Tests that `orchestrator up` survives the loss of the embedded Valkey and of its keeper."""

import os
import signal

import httpx
from support.command import processes, up
from support.stack import chat, eventually


async def test_a_killed_keeper_and_server_are_restarted_with_one_line(
    environment: dict[str, str],
) -> None:
    async with (
        up(environment, "--workers", "1", "--simulate") as deployment,
        httpx.AsyncClient(base_url=deployment.url, timeout=30) as api,
    ):
        kept = (await api.post("/batch", json={"requests": [chat("before")]})).json()
        owned = [process for process in await processes() if deployment.data_dir in process[2]]
        [keeper] = [pid for pid, _, command in owned if "shared.redis.embedded" in command]
        [server] = [pid for pid, parent, _ in await processes() if parent == keeper]
        os.kill(keeper, signal.SIGKILL)
        os.kill(server, signal.SIGKILL)

        async def works() -> bool:
            answer = await api.post("/batch", json={"requests": [chat("after")]})
            return answer.is_success and answer.json()["successful"] == 1

        await eventually(works, 60)
        assert (await api.get(f"/jobs/{kept['job_id']}")).json()["status"] == "completed"
        assert (await api.get("/health/ready")).json()["status"] == "ready"
        deployment.process.terminate()
        assert deployment.process.stdout is not None
        said = (await deployment.process.stdout.read()).decode().splitlines()

    assert len([line for line in said if "keeps the embedded Valkey" in line]) == 1
    await eventually(deployment.is_gone)
