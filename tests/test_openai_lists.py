"""Tests lists of batches and files, and the sums over results that they show."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.openai_batches import create, created, ended, error, line, upload
from support.providers import combined
from support.stack import chat, eventually

from api.openai import result_sums
from shared.jobs.batch_store import BatchStore
from shared.jobs.store import Store
from shared.providers import PROVIDERS, Catalogue
from shared.queue.ids import batch_id
from shared.queue.redis_keys import Keys
from shared.redis.client import RedisUnavailable
from shared.redis.time_index import Place, TimeIndex
from shared.settings import ProviderSettings


@pytest.fixture
def catalogue(providers: dict[str, ProviderSettings]) -> Catalogue:
    return combined({name: PROVIDERS[name] for name in providers}, providers).catalogue


async def test_lists(api: httpx.AsyncClient) -> None:
    files = [(await upload(api, line("a")))["id"] for _ in range(5)]
    other = (await upload(api, b"x", purpose="user_data"))["id"]
    batches = [(await create(api, file)).json()["id"] for file in files]

    async def pages(path: str, **query: Any) -> list[list[str]]:
        found: list[list[str]] = []
        after: dict[str, str] = {}
        while True:
            page = (await api.get(path, params={**query, **after})).json()
            ids = [entry["id"] for entry in page["data"]]
            found.append(ids)
            assert (page["object"], page["first_id"], page["last_id"]) == ("list", ids[0], ids[-1])
            if not page["has_more"]:
                return found
            after = {"after": page["last_id"]}

    newest = files[::-1]
    assert await pages("/v1/files") == [[other, *newest]]
    assert await pages("/v1/files", limit=3, order="asc") == [files[:3], [*files[3:], other]]
    assert await pages("/v1/files", limit=5, purpose="batch") == [newest]
    assert await pages("/v1/files", limit=2, purpose="batch") == [
        newest[:2],
        newest[2:4],
        newest[4:],
    ]
    assert await pages("/v1/batches", limit=5) == [batches[::-1]]
    assert await pages("/v1/batches", limit=4) == [batches[:0:-1], batches[:1]]
    empty = (await api.get("/v1/files", params={"after": files[0]})).json()
    assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)
    for path in ("/v1/files", "/v1/batches"):
        assert error(await api.get(path, params={"after": "x"}))[0] == 404
        assert error(await api.get(path, params={"limit": 0})) == (400, None, "limit")


async def test_batches_that_are_created_while_a_list_is_read(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys
) -> None:
    """They would shift the positions of the others."""
    file = await upload(api, line("a"))
    ids = [(await create(api, file["id"])).json()["id"] for _ in range(6)]
    store = BatchStore(redis, keys, Store(redis, keys), result_ttl_s=60)
    index = store.index("", newest_first=True)

    found = []
    async for batch in store.read_list(index, "", None, 2):
        found.append(batch_id(batch.job_id))
        await create(api, file["id"])

    assert found == ids[::-1]


@pytest.mark.parametrize("newest_first", [False, True])
async def test_ids_at_the_same_time(redis: ArqRedis, keys: Keys, *, newest_first: bool) -> None:
    places = [Place(ms, f"{number:02}") for ms in (1.5, 2.5) for number in range(50)]
    await redis.zadd(keys.jobs_by_owner(""), {f"{p.ms} {p.member}": p.ms for p in places})
    index = TimeIndex(redis, keys.jobs_by_owner(""), newest_first=newest_first)
    found: list[Place] = []

    while page := await index.read(found[-1] if found else None, 7):
        found += page

    assert found == sorted(found, reverse=newest_first)
    assert {place.member for place in found} == {f"{p.ms} {p.member}" for p in places}
    assert await index.place("1.5 00") == Place(1.5, "1.5 00")
    assert await index.place("x") is None


@pytest.mark.usefixtures("worker")
async def test_files_of_results_are_listed_with_uploaded_files(api: httpx.AsyncClient) -> None:
    """Each file is on one page, whatever the size of the pages is, and its size is right."""
    lines = [line("a"), line("b", model="openrouter/sim-400")]
    both = await ended(api, (await created(api, *lines))["id"])
    answers = await ended(api, (await created(api, lines[0]))["id"])
    other = await upload(api, b"x", purpose="user_data")
    uploaded = [both["input_file_id"], answers["input_file_id"], other["id"]]
    results = [both["output_file_id"], both["error_file_id"], answers["output_file_id"]]
    oldest_first = [uploaded[0], *results[:2], uploaded[1], results[2], uploaded[2]]

    async def walk(limit: int, **query: Any) -> list[Any]:
        found: list[Any] = []
        while True:
            after = {"after": found[-1]["id"]} if found else {}
            page = (await api.get("/v1/files", params={"limit": limit, **query, **after})).json()
            found += page["data"]
            if not page["has_more"]:
                return found

    for limit in range(1, 7):
        listed = await walk(limit, order="asc")
        assert [file["id"] for file in listed] == oldest_first
        assert await walk(limit) == listed[::-1]
        assert [file["id"] for file in await walk(limit, purpose="batch_output")] == results[::-1]
        batches = await walk(limit, purpose="batch", order="asc")
        assert [file["id"] for file in batches] == uploaded[:2]
        assert await walk(limit, purpose="assistants_output") == []
    for file in listed:
        content = await api.get(f"/v1/files/{file['id']}/content")
        assert file == (await api.get(f"/v1/files/{file['id']}")).json()
        assert file["bytes"] == len(content.content)

    await api.delete(f"/v1/files/{results[0]}")
    assert [file["id"] for file in await walk(2)] == [
        file_id for file_id in oldest_first[::-1] if file_id != results[0]
    ]
    rest = await api.get("/v1/files", params={"after": results[0], "order": "asc"})
    assert [file["id"] for file in rest.json()["data"]] == oldest_first[2:]


@pytest.mark.usefixtures("worker")
async def test_a_list_has_the_usage_of_its_batches(api: httpx.AsyncClient) -> None:
    batch = await created(api, line("a"))

    async def listed() -> Any:
        [found] = (await api.get("/v1/batches")).json()["data"]
        return found

    async def has_ended() -> bool:
        return bool((await listed())["status"] == "completed")

    await eventually(has_ended)
    found = await listed()

    assert found["usage"]["total_tokens"] > 0
    assert found == (await api.get(f"/v1/batches/{batch['id']}")).json()


@pytest.mark.usefixtures("worker")
async def test_a_list_does_not_wait_for_long_sums(
    monkeypatch: pytest.MonkeyPatch, api: httpx.AsyncClient
) -> None:
    """The sums continue, so that a later list has the usage and the sizes."""
    batch = await ended(api, (await created(api, line("a")))["id"])
    job = (await api.post("/jobs", json={"requests": [chat("a")]})).json()
    await ended(api, job["job_id"])
    monkeypatch.setattr(result_sums, "WAIT_S", 0)

    async def values() -> list[Any]:
        batches = (await api.get("/v1/batches")).json()["data"]
        files = (await api.get("/v1/files", params={"purpose": "batch_output"})).json()["data"]
        assert len(batches) == len(files) == 2
        return [*(entry["usage"] for entry in batches), *(file["bytes"] for file in files)]

    async def has_values() -> bool:
        return all(await values())

    await eventually(has_values)
    assert (await values())[1] == batch["usage"]


async def test_sums_are_limited_and_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_sums, "WAIT_S", 0)
    monkeypatch.setattr(result_sums, "MAX_SUMS", 2)
    started: list[str] = []
    released = asyncio.Event()

    def compute(name: str) -> Callable[[], Awaitable[str]]:
        async def waiting() -> str:
            started.append(name)
            await released.wait()
            if name == "b":
                raise RedisUnavailable("gone")
            return name

        return waiting

    wanted = {name: compute(name) for name in "abc"}
    async with result_sums.running_sums() as running:
        assert await running.gather(wanted) == {}
        assert await running.gather(wanted) == {}
        released.set()
        monkeypatch.setattr(result_sums, "WAIT_S", 30)
        assert await running.gather(wanted) == {"a": "a"}
        assert await running.gather({"c": wanted["c"]}) == {"c": "c"}

    assert started == ["a", "b", "c"]
