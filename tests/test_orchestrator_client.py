"""The Python client, against real processes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from support.authentication import ANN, API_KEYS
from support.jobs import ended
from support.stack import Stack, chat

from cli.client import AsyncClient, Client
from cli.patience import OrchestratorError
from shared.models import LLMRequest, Message, Role

Start = Callable[..., Awaitable[Stack]]


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
    """In a thread, and where an event loop runs."""
    deployment = await stack(workers=1)

    def use() -> None:
        with Client(str(deployment.api.base_url)) as client:
            job = client.submit([request("a"), chat("b", model="sim-404")])
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


async def test_a_restart_of_the_api_is_not_noticed(stack: Start) -> None:
    deployment = await stack(workers=1, MAX_CONCURRENT_REQUESTS="5")
    await deployment.simulate(latency_ms=20)
    async with AsyncClient(str(deployment.api.base_url)) as client:
        job = await client.submit([chat(str(n)) for n in range(200)])
        seen = []
        async for item in client.results(job.job_id):
            seen.append(item.index)
            if len(seen) in {20, 100}:
                deployment.api_process.kill()
                await deployment.api_process.wait()
                await deployment.restart_api()
        status = await client.status(job.job_id)

    assert seen == list(range(200))
    assert status.successful == 200


async def test_a_request_is_repeated_until_the_api_is_there(stack: Start) -> None:
    deployment = await stack(workers=1)
    deployment.api_process.kill()
    await deployment.api_process.wait()
    async with AsyncClient(str(deployment.api.base_url)) as client:
        submitting = asyncio.create_task(client.submit([chat("x")]))
        await deployment.restart_api()

        job = await submitting

    assert (await ended(deployment.api, f"/jobs/{job.job_id}"))["successful"] == 1


async def test_what_an_iterator_gives_is_sent_whole_though_the_upload_broke(stack: Start) -> None:
    deployment = await stack(workers=1)
    wanted = [f"{n} {'x' * 3000}" for n in range(1000)]

    def requests() -> Iterator[dict[str, Any]]:
        for number, content in enumerate(wanted):
            if number == 500:
                deployment.api_process.kill()
            yield chat(content)

    async with AsyncClient(str(deployment.api.base_url)) as client:
        submitting = asyncio.create_task(client.submit(requests()))
        await deployment.api_process.wait()
        await deployment.restart_api()
        job = await submitting
        contents = [item.content async for item in client.results(job.job_id)]

    assert contents == [f"echo: {content}" for content in wanted]


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


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("127.0.0.1:8000", "", "should be http"),
        ("http://[::1", "", "should be http"),
        ("http://", "", "should be http"),
        ("http://localhost", "schlüssel€", "printable ASCII"),
        ("http://localhost", "a\nb", "printable ASCII"),
    ],
)
def test_what_no_patience_would_help_is_said_at_once(url: str, key: str, said: str) -> None:
    with pytest.raises(OrchestratorError, match=said) as refused:
        AsyncClient(url, api_key=key)

    assert not key or key not in str(refused.value)


async def test_another_server_is_said_to_be_one() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(OrchestratorError, match="is no orchestrator"):
                await client.status("x")


async def test_an_id_stays_an_id(stack: Start) -> None:
    deployment = await stack(workers=0)
    async with AsyncClient(str(deployment.api.base_url)) as client:
        for job_id in ("../overview", "", "x?y"):
            with pytest.raises(OrchestratorError) as refused:
                await client.status(job_id)
            assert refused.value.status == 404


async def test_patience_ends() -> None:
    async with AsyncClient("http://127.0.0.1:9", patience_s=0) as client:
        with pytest.raises(OrchestratorError, match="cannot be reached"):
            await client.status("x")


async def test_a_batch_may_take_longer_than_one_answer(
    stack: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.client.WAIT_S", 1)
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=2500)
    async with AsyncClient(str(deployment.api.base_url)) as client:
        batch = await client.batch([chat("x")])

    assert batch.responses[0].content == "echo: x"
    assert (await deployment.stats())["total"] == 1


async def test_results_may_be_a_long_time_in_coming(
    stack: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than the client waits for a sign of life, and is patient."""
    monkeypatch.setattr("cli.client.TIMEOUT_S", 1)
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=3500)
    troubles: list[str] = []
    url = str(deployment.api.base_url)
    async with AsyncClient(url, patience_s=0, on_trouble=troubles.append) as client:
        job = await client.submit([chat("x")])
        items = [item async for item in client.results(job.job_id)]

    assert [item.content for item in items] == ["echo: x"]
    assert not troubles


async def test_a_refusal_says_why(stack: Start) -> None:
    deployment = await stack(workers=0)
    async with AsyncClient(str(deployment.api.base_url)) as client:
        with pytest.raises(OrchestratorError, match="line 2 provider: Field required") as wrong:
            await client.submit([chat("x"), {"model": "m"}])
        with pytest.raises(OrchestratorError, match="no such job") as missing:
            await client.status("nobody")
        with pytest.raises(OrchestratorError, match="no such job"):
            _ = [item async for item in client.results("nobody")]

    assert (wrong.value.status, missing.value.status) == (422, 404)


async def test_where_and_who_come_from_the_environment(
    stack: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = await stack(workers=1, key=ANN, API_KEYS=API_KEYS)
    monkeypatch.setenv("ORCHESTRATOR_URL", str(deployment.api.base_url))
    async with AsyncClient() as client:
        with pytest.raises(OrchestratorError) as refused:
            await client.batch([chat("x")])
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", ANN)
    async with AsyncClient() as client:
        answer = await client.batch([chat("x")])

    assert refused.value.status == httpx.codes.UNAUTHORIZED
    assert answer.successful == 1
