"""Stores the files of owners in Redis, in compressed blocks."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from shared.files.blocks import unpack
from shared.files.errors import FileNotFound
from shared.files.stored_file import FIELDS, StoredFile, parse_file
from shared.files.upload import FileLimits, FileUpload, UploadScripts
from shared.queue.redis_keys import Keys
from shared.queue.scripts import load_script
from shared.redis.memory import RedisMemory
from shared.redis.time_index import Place, TimeIndex

_READ_FILES = 500  # limit of files that are read in one round trip
_FILE_ID = re.compile(r"file-[0-9a-f]{32}")


class FileStore:
    """Reads and writes the files of all owners. Raises RedisUnavailable, FileNotFound."""

    def __init__(self, redis: Redis, keys: Keys, limits: FileLimits, memory: RedisMemory) -> None:
        self._memory = memory
        self._redis = redis
        self._keys = keys
        self._limits = limits
        self._uploads = UploadScripts(redis, keys)
        self._delete = load_script(redis, keys, "delete_file")

    @asynccontextmanager
    async def upload(self, owner: str) -> AsyncIterator[FileUpload]:
        """Yields a new upload. Raises RedisFull.

        If the block raises an exception before `commit`, the stored blocks are deleted.
        """
        self._memory.check()
        upload = FileUpload(
            self._redis, self._keys, self._uploads, owner, self._limits, self._memory
        )
        try:
            yield upload
        except BaseException:
            await upload.discard()
            raise

    async def get(self, file_id: str, owner: str) -> StoredFile:
        [found] = await self._read([file_id] if _FILE_ID.fullmatch(file_id) else [""], owner)
        if found is None:
            raise FileNotFound(file_id)
        return found

    async def delete(self, file_id: str, owner: str) -> None:
        if not (_FILE_ID.fullmatch(file_id) and await self._delete(args=[file_id, owner])):
            raise FileNotFound(file_id)

    async def blocks(self, file: StoredFile) -> AsyncIterator[bytes]:
        """Yields the content. Raises FileNotFound if the file expires or is deleted meanwhile."""
        for number in range(file.blocks):
            block = await self._redis.hget(self._keys.file_blocks(file.id), str(number))  # type: ignore[misc]
            if block is None:
                raise FileNotFound(file.id)
            yield unpack(block)

    def index(self, owner: str, *, newest_first: bool) -> TimeIndex:
        return TimeIndex(self._redis, self._keys.files_by_owner(owner), newest_first=newest_first)

    async def read_list(
        self, index: TimeIndex, owner: str, after: Place | None, count: int, purpose: str | None
    ) -> list[StoredFile]:
        """Returns up to `count` files after a place, or the first files if `after` is None.

        If `purpose` is not None, returns only files with this purpose.
        """
        found: list[StoredFile] = []
        size = min(count, _READ_FILES)
        while len(found) < count:
            places = await index.read(after, size)
            files = await self._read([place.member for place in places], owner)
            found += [f for f in files if f and purpose in {None, f.info.purpose}]
            if len(places) < size:
                break
            after = places[-1]
        return found[:count]

    async def _read(self, file_ids: Sequence[str], owner: str) -> list[StoredFile | None]:
        if not file_ids:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for file_id in file_ids:
            pipe.hmget(self._keys.file(file_id), FIELDS)
        replies = await pipe.execute()
        return [
            parse_file(file_id, fields, owner)
            for file_id, fields in zip(file_ids, replies, strict=True)
        ]
