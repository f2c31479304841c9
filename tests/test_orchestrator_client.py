"""Tests what programs do with the Python client, against real processes."""

import asyncio
import csv
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.in_process import served_api
from support.stack import Start, chat

from orchestrator_client import (
    AsyncClient,
    BatchLLMResponse,
    Client,
    Job,
    OrchestratorError,
)
from orchestrator_client.connection import Connection
from shared.models import LLMRequest, Message, Role
from shared.settings import Settings


def request(text: str) -> LLMRequest:
    return LLMRequest(
        provider="openrouter", model="m", messages=[Message(role=Role.USER, content=text)]
    )


async def test_a_batch_and_a_job(stack: Start) -> None:
    deployment = await stack(workers=1)
    async with AsyncClient(str(deployment.api.base_url)) as client:
        batch = await client.batch([request("a"), chat("b", provider="ollama")])
        job = await client.submit(chat(str(n)) for n in range(300))
        items = [item async for item in client.results(job.job_id)]
        listed = [found.job_id async for found in client.jobs()]

    assert [response.content for response in batch.responses] == ["echo: a", "echo: b"]
    assert [item.content for item in items] == [f"echo: {n}" for n in range(300)]
    assert listed == [job.job_id, batch.job_id]


async def test_the_synchronous_client_does_the_same(stack: Start) -> None:
    """Tests the client in a thread, and in a thread that runs an event loop."""
    deployment = await stack(workers=1)

    def use() -> None:
        with Client(str(deployment.api.base_url)) as client:
            job = client.submit([request("a"), chat("b", model="sim-404")], new=True)
            failed = list(client.results(job.job_id, status="failed"))
            assert [item.index for item in failed] == [1]
            assert client.status(job.job_id).failed == 1
            again = client.retry(job.job_id)
            assert next(client.results(again.job_id, order="completion")).error
            newest = [found.job_id for found in client.jobs()][:2]
            assert newest == [again.job_id, job.job_id]
            assert client.cancel(again.job_id).finished_at
            assert client.batch([request("c")]).responses[0].content == "echo: c"

    await asyncio.to_thread(use)

    async def used_where_a_loop_runs() -> None:
        use()

    await asyncio.to_thread(lambda: asyncio.run(used_where_a_loop_runs()))


async def test_answers_may_have_any_line_ends(stack: Start) -> None:
    deployment = await stack(workers=1)
    text = "a\u2028b\u2029c\u0085d\x0be\x1cf\r\n"
    async with AsyncClient(str(deployment.api.base_url)) as client:
        job = await client.submit([chat(text), chat("second")])
        contents = [item.content async for item in client.results(job.job_id)]

    assert contents == [f"echo: {text}", "echo: second"]


async def test_requests_may_come_from_the_results_of_the_same_client(stack: Start) -> None:
    deployment = await stack(workers=1)

    def use() -> list[str]:
        with Client(str(deployment.api.base_url)) as client:
            first = client.submit(chat(text) for text in ("a", "b"))
            second = client.submit(chat(item.content) for item in client.results(first.job_id))
            return [item.content for item in client.results(second.job_id)]

    assert await asyncio.to_thread(use) == ["echo: echo: a", "echo: echo: b"]


async def test_an_id_stays_an_id(stack: Start) -> None:
    deployment = await stack(workers=0)
    async with AsyncClient(str(deployment.api.base_url)) as client:
        for job_id in ("../overview", "", "x?y"):
            with pytest.raises(OrchestratorError) as refused:
                await client.status(job_id)
            assert refused.value.status_code == 404


async def test_a_batch_may_take_longer_than_one_answer(
    stack: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator_client.async_client.WAIT_S", 1)
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=2500)
    async with AsyncClient(str(deployment.api.base_url)) as client:
        batch = await client.batch([chat("x")])

    assert batch.responses[0].content == "echo: x"
    assert (await deployment.stats())["total"] == 1


async def test_results_may_take_a_long_time(stack: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests a wait that is longer than the read timeout and the retry budget."""
    monkeypatch.setattr("orchestrator_client.connection.TIMEOUT_S", 1)
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=3500)
    troubles: list[str] = []
    url = str(deployment.api.base_url)
    async with AsyncClient(url, retry_for_s=0, on_retry=troubles.append) as client:
        job = await client.submit([chat("x")])
        items = [item async for item in client.results(job.job_id)]

    assert [item.content for item in items] == ["echo: x"]
    assert [trouble for trouble in troubles if "was silent" not in trouble] == []
    assert len(troubles) == 1  # only the first silence is reported


async def test_methods_take_the_job_and_refuse_anything_else(
    stack: Start, caplog: pytest.LogCaptureFixture
) -> None:
    deployment = await stack(workers=1)

    def use() -> None:
        with Client(str(deployment.api.base_url)) as client:
            job = client.submit([chat("a", model="sim-404"), chat("b")])
            assert [item.index for item in client.results(job)] == [0, 1]
            assert len(list(client.result_lines(job))) == 2
            assert client.failures(job, 5)[0].index == 0
            assert client.status(job).failed == 1
            assert client.retry(job).retry_of == job.job_id
            assert client.cancel(client.batch([chat("c")])).status == "completed"
            with pytest.raises(TypeError, match="a job or the id of a job is needed, not int"):
                client.status(17)  # type: ignore[arg-type]
            assert caplog.messages == []
            client.submit([chat("a", model="sim-404"), chat("b")])  # returns the same job

    await asyncio.to_thread(use)
    [said] = caplog.messages
    assert "1 of its 2 requests failed. While its results are stored, the same requests" in said
    assert "client.retry('" in said


async def test_the_cause_of_a_silence_is_logged_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("api.streams.heartbeats.HEARTBEAT_S", 0.05)
    monkeypatch.setattr("orchestrator_client.result_lines.SILENT_S", 0)
    asked = asyncio.Event()
    overviews = 0
    attempt = Connection.attempt

    async def counted(self: Connection, method: str, path: str, **request: Any) -> httpx.Response:
        nonlocal overviews
        overviews += path == "/overview"
        if overviews == 3:
            asked.set()
        return await attempt(self, method, path, **request)

    monkeypatch.setattr(Connection, "attempt", counted)
    async with served_api(settings) as api, AsyncClient(str(api.base_url)) as client:
        job = await client.submit([chat("a")])

        async def follow() -> None:
            async for _ in client.results(job):
                pass

        following = asyncio.create_task(follow())
        async with asyncio.timeout(30):
            await asked.wait()
        await client.cancel(job)
        await following

    [said] = caplog.messages
    assert said.startswith("No worker is alive: 1 request is waiting.")


async def test_the_same_requests_are_the_same_job(stack: Start) -> None:
    deployment = await stack(workers=1)
    requests = [chat("a"), chat("b", temperature=0.5)]

    async with AsyncClient(str(deployment.api.base_url)) as client:
        first = await client.submit(requests)
        same: list[Job | BatchLLMResponse] = [
            await client.submit(request for request in requests),
            await client.submit([request("a"), chat("b", temperature=0.5)]),
            await client.batch(requests),
        ]
        others: list[Job | BatchLLMResponse] = [
            await client.submit(requests, new=True),
            await client.submit(requests, deadline_s=60),
            await client.submit(requests, key="mine"),
            await client.submit(reversed(requests)),
            await client.batch(requests, new=True),
        ]

    assert {job.job_id for job in same} == {first.job_id}
    assert len({first.job_id, *(job.job_id for job in others)}) == 1 + len(others)


NOTEBOOK = """
import asyncio, sys
from orchestrator_client import AsyncClient, Client

client = Client(sys.argv[1])

async def cell():  # a notebook runs a cell like this: in an event loop
    job = client.submit([REQUEST, REQUEST])
    return client.results(job.job_id)

results = asyncio.run(cell())
print(next(results).content)  # the second result is never read

async def asynchronous_cell():
    client = AsyncClient(sys.argv[1])
    return await client.batch([REQUEST])

print(asyncio.run(asynchronous_cell()).responses[0].content)
"""


async def test_clients_need_not_be_closed(stack: Start) -> None:
    deployment = await stack(workers=1)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", NOTEBOOK.replace("REQUEST", repr(chat("x")))),
        str(deployment.api.base_url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        output, errors = await process.communicate()

    assert (process.returncode, errors.decode()) == (0, "")
    assert output == b"echo: x\necho: x\n"


def test_a_closed_client_says_so() -> None:
    client = Client("http://127.0.0.1:9")
    client.close()
    client.close()

    with pytest.raises(RuntimeError, match="the client is closed"):
        client.status("x")


async def test_rows_of_a_csv_file_come_back_as_rows_of_a_table(
    stack: Start, tmp_path: Path
) -> None:
    """Tests that the results are rows for `pandas.DataFrame`: flat, with the ids of the file."""
    deployment = await stack(workers=1)
    file = tmp_path / "questions.csv"
    file.write_text('id,question\n17,first\n4,"second, with a comma"\n')

    def ask() -> list[dict[str, Any]]:
        client = Client(str(deployment.api.base_url))
        with file.open(newline="") as lines:
            job = client.submit(
                chat(row["question"], request_id=row["id"]) for row in csv.DictReader(lines)
            )
        return [item.model_dump() for item in client.results(job.job_id)]

    rows = await asyncio.to_thread(ask)

    assert [(row["request_id"], row["content"]) for row in rows] == [
        ("17", "echo: first"),
        ("4", "echo: second, with a comma"),
    ]
    assert all(not isinstance(value, dict | list) for row in rows for value in row.values())
