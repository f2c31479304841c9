"""Tests `/v1/files`: what is stored, for how long, and which uploads are refused."""

from random import Random
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.in_process import running_api
from support.openai_batches import create, created, ended, error, line, upload
from support.providers import combined
from support.stack import eventually

from shared.files import blocks
from shared.files.errors import FileExpired
from shared.files.store import FileStore
from shared.files.stored_file import FileInfo
from shared.files.upload import FileLimits, FileUpload, Repetition, UploadScripts
from shared.jobs.staging import STAGING_TTL_S
from shared.providers import PROVIDERS, Catalogue
from shared.queue.claims import Queue
from shared.queue.redis_keys import Keys
from shared.redis.memory import RedisMemory
from shared.settings import ProviderSettings, Settings

NO_LIMIT = FileLimits(max_bytes=10**9, max_queue_bytes=10**9)


@pytest.fixture
def catalogue(providers: dict[str, ProviderSettings]) -> Catalogue:
    return combined({name: PROVIDERS[name] for name in providers}, providers).catalogue


async def test_a_file_keeps_every_byte(api: httpx.AsyncClient) -> None:
    data = bytes(range(256)) * 3000 + b"\r\n--boundary\r\n"  # more than one block
    assert len(data) > blocks.BLOCK_BYTES
    answer = await api.post(
        "/v1/files",
        files={"file": ("näme.bin", data)},
        data={
            "purpose": "user_data",
            "expires_after[anchor]": "created_at",
            "expires_after[seconds]": "3600",
        },
    )
    file = answer.json()
    stored = await api.get(f"/v1/files/{file['id']}/content")

    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(data),
        "created_at": file["created_at"],
        "expires_at": file["expires_at"],
        "filename": "näme.bin",
        "purpose": "user_data",
        "status": "processed",
        "status_details": None,
    }
    assert file["expires_at"] - file["created_at"] in {3600, 3601}
    assert stored.content == data
    assert stored.headers["content-length"] == str(len(data))
    assert (await api.get(f"/v1/files/{file['id']}")).json() == file


@pytest.mark.parametrize("data", [b"x" * 1000, bytes(range(256)), b""])
def test_blocks(data: bytes) -> None:
    block = blocks.pack(data)

    assert blocks.unpack(block) == data
    assert len(block) <= len(data) + 1


async def test_a_deleted_file_is_gone(api: httpx.AsyncClient, redis: ArqRedis, keys: Keys) -> None:
    file = await upload(api, line("a"))
    batch = (await create(api, file["id"])).json()

    deleted = await api.delete(f"/v1/files/{file['id']}")
    again = await api.delete(f"/v1/files/{file['id']}")

    assert deleted.json() == {"id": file["id"], "object": "file", "deleted": True}
    assert error(again) == error(await api.get(f"/v1/files/{file['id']}")) == (404, None, None)
    assert (await api.get("/v1/files")).json()["data"] == []
    assert (await api.get(f"/v1/batches/{batch['id']}")).json()["status"] == "in_progress"
    left = {key.decode() async for key in redis.scan_iter(match=f"{keys.prefix}file*")}
    assert left == set()


@pytest.mark.usefixtures("worker")
async def test_a_deleted_output_file_is_gone(api: httpx.AsyncClient) -> None:
    batch = await ended(api, (await created(api, line("a")))["id"])
    path = f"/v1/files/{batch['output_file_id']}"
    file, stored = (await api.get(path)).json(), await api.get(f"{path}/content")

    assert (file["purpose"], file["bytes"]) == ("batch_output", len(stored.content))
    assert (await api.delete(path)).json()["deleted"] is True
    assert [(await api.get(url)).status_code for url in (path, f"{path}/content")] == [404, 404]
    assert (await api.get(f"/jobs/{batch['id']}")).json()["successful"] == 1


async def test_expired_files_are_forgotten(
    settings: Settings, catalogue: Catalogue, redis: ArqRedis, keys: Keys, queue: Queue
) -> None:
    async with running_api(settings.model_copy(update={"file_ttl_seconds": 1}), catalogue) as api:
        file = await upload(api, line("a"))
        assert await redis.hexists(keys.file_bytes, "")  # type: ignore[misc]

        async def is_gone() -> bool:
            return (await api.get(f"/v1/files/{file['id']}")).status_code == 404

        await eventually(is_gone)
        assert (await api.get("/v1/files")).json()["data"] == []
        await queue.expire_overdue()

    assert {key async for key in redis.scan_iter(match=f"{keys.prefix}file*")} == set()


async def test_the_files_of_an_owner_are_limited(
    settings: Settings, catalogue: Catalogue, redis: ArqRedis, keys: Keys
) -> None:
    limits = {"max_stored_file_bytes": 2000, "max_file_bytes": 3000}
    async with running_api(settings.model_copy(update=limits), catalogue) as api:
        for size, status in ((3001, 413), (2500, 429), (1500, 200), (600, 429), (200, 200)):
            file = {"file": Random(size).randbytes(size)}
            answer = await api.post("/v1/files", files=file, data={"purpose": "user_data"})
            assert answer.status_code == status, (size, answer.text)
            retry = answer.headers.get("x-should-retry")
            assert retry == ("false" if status == 429 else None)

    blocks_left = [key async for key in redis.scan_iter(match=f"{keys.file_blocks('')}*")]
    assert len(blocks_left) == 2


async def test_the_blocks_of_an_upload_that_never_ends_expire(redis: ArqRedis, keys: Keys) -> None:
    """An API that is killed cannot discard the blocks."""
    scripts = UploadScripts(redis, keys)
    upload = FileUpload(redis, keys, scripts, "", NO_LIMIT, RedisMemory(redis))
    await upload.add(Random(0).randbytes(blocks.BLOCK_BYTES + 1))

    assert await redis.keys(f"{keys.prefix}file*") == [keys.file_blocks(upload.id).encode()]
    assert await redis.zcard(keys.staged_uploads) == 1
    assert 0 < await redis.ttl(keys.file_blocks(upload.id)) <= STAGING_TTL_S


async def test_an_upload_that_was_too_slow_is_refused(redis: ArqRedis, keys: Keys) -> None:
    files = FileStore(redis, keys, NO_LIMIT, RedisMemory(redis))
    async with files.upload("") as upload:
        await upload.add(Random(0).randbytes(blocks.BLOCK_BYTES + 1))
        await redis.delete(keys.file_blocks(upload.id))
        with pytest.raises(FileExpired):
            await upload.commit(
                FileInfo("name", "batch", upload.size), ttl_s=60, repetition=Repetition()
            )

    assert await redis.keys(f"{keys.prefix}file*") == []


async def test_forms_that_are_refused(api: httpx.AsyncClient) -> None:
    file, purpose = {"file": b"x"}, {"purpose": "batch"}
    expiry = {"purpose": "batch", "expires_after[anchor]": "created_at"}
    kinds: list[tuple[dict[str, Any], int, str | None]] = [
        ({"files": file}, 400, "purpose"),
        ({"files": file, "data": {"purpose": "x"}}, 400, "purpose"),
        ({"files": file, "data": {**purpose, "x": "y"}}, 400, "x"),
        ({"files": file, "data": expiry}, 400, "expires_after.seconds"),
        (
            {"files": file, "data": {**expiry, "expires_after[seconds]": "60"}},
            400,
            "expires_after.seconds",
        ),
        ({"files": {"x": b"y"}, "data": purpose}, 400, "file"),
        ({"files": [("file", b"x"), ("file", b"y")], "data": purpose}, 400, "file"),
        ({"files": file, "data": {"purpose": "x" * 20_000}}, 400, "purpose"),
        ({"files": [(str(n), b"x") for n in range(21)]}, 400, None),
        ({"content": b"x"}, 415, None),
        ({"json": {}}, 415, None),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 415, None),
    ]
    boundary = {"content-type": "multipart/form-data; boundary=x"}
    unfinished = b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\nabc'
    kinds += [
        ({"content": body, "headers": boundary}, 400, None)
        for body in (b"", b"--y", b"--x\r\n", unfinished)
    ]

    for request, status, param in kinds:
        assert error(await api.post("/v1/files", **request)) == (status, None, param), request
    assert (await api.get("/v1/files")).json()["data"] == []
