"""Stores the files of owners in Redis, in compressed blocks.

FileRejected
├── StorageFull   the owner would have too many files, or too many bytes of files
└── FileExpired   the upload was too slow, so its first blocks have expired
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any
from uuid import uuid4

import orjson
from redis.asyncio import Redis

from shared.files.blocks import BLOCK_BYTES, pack, unpack
from shared.jobs.staging import STAGING_TTL_S
from shared.jobs.submission import IdempotencyConflict, QueueBytesFull
from shared.queue.redis_keys import Keys
from shared.queue.scripts import load_script
from shared.redis.client import RedisUnavailable
from shared.redis.memory import RedisMemory
from shared.redis.time_index import Place, TimeIndex

MAX_FILES = 10_000  # limit per owner
REPEATED_FOR_S = 3600  # OpenAI's clients repeat an upload up to twice, each time after 600 s
_READ_FILES = 500  # limit of files that are read in one round trip
_FILE_ID = re.compile(r"file-[0-9a-f]{32}")


class FileRejected(Exception):
    """The file was not stored."""


class StorageFull(FileRejected):
    """The owner would have more than `max_bytes` of stored files, or more than `MAX_FILES`."""


class FileExpired(FileRejected):
    """The first blocks of the upload expired before the last blocks arrived."""


class FileNotFound(Exception):
    """The owner has no file with this id, or the file has expired or was deleted."""

    def __init__(self, file_id: str) -> None:
        super().__init__(file_id)
        self.file_id = file_id


@dataclass(frozen=True, slots=True)
class FileInfo:
    """The description of a file.

    size: bytes of the file as the client sent them.
    requests: number of requests in a file of requests.
    model: the route that all requests have; None if they have several.
    mistakes: the first mistakes in the requests, as dicts that are JSON.
    """

    filename: str
    purpose: str
    size: int
    requests: int = 0
    model: str | None = None
    mistakes: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class StoredFile:
    id: str
    created_ms: float
    expires_ms: float
    blocks: int
    info: FileInfo
    used_by: str | None  # '<digest> <job>' of the last batch: see lua/lib/file_use.lua


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Limits of the files of one owner, after their compression.

    max_bytes: limit of the files.
    max_queue_bytes: limit of the files and the requests of unfinished jobs together.
    """

    max_bytes: int
    max_queue_bytes: int


class UploadScripts:
    """The scripts of uploads: see the files in shared/queue/lua/."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.stage_block, self.accept, self.unstage = (
            load_script(redis, keys, name) for name in ("stage_block", "accept_file", "unstage")
        )


@dataclass(frozen=True, slots=True)
class Repetition:
    """Says how an upload is found again if its client repeats it.

    is_repeated: whether the client says that it sends the upload again. Without a key, it gets the
        file of an equal upload of the last hour that no batch has used yet.
    key, key_ttl_s: an idempotency key, with which an equal upload is the same file, and the time
        for which the key is known.
    """

    is_repeated: bool = False
    key: str | None = None
    key_ttl_s: int = 0


class FileUpload:
    """Stores the blocks of a file. Nobody sees the file before `commit`."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        scripts: UploadScripts,
        owner: str,
        limits: FileLimits,
        memory: RedisMemory,
    ) -> None:
        self._memory = memory
        self._redis = redis
        self._keys = keys
        self._scripts = scripts
        self._owner = owner
        self._limits = limits
        self._pending = bytearray()
        self._blocks = 0
        self._stored_bytes = 0
        self._staged_bytes = 0  # those that Redis counts for the owner
        self._committed = False
        self._digest = blake2b(digest_size=16)
        self.id = f"file-{uuid4().hex}"
        self.size = 0

    async def add(self, data: bytes) -> None:
        """Stores the next bytes. Raises StorageFull, QueueBytesFull and RedisFull."""
        self.size += len(data)
        self._digest.update(data)
        self._pending += data
        while len(self._pending) >= BLOCK_BYTES:
            await self._send(bytes(self._pending[:BLOCK_BYTES]))
            del self._pending[:BLOCK_BYTES]

    async def commit(self, info: FileInfo, ttl_s: int, repetition: Repetition) -> None:
        """Sends the rest of the file, and makes the file visible.

        If the upload is a repetition, `id` becomes the id of the earlier file, and nothing is
        stored. Raises FileRejected, QueueBytesFull, IdempotencyConflict.
        """
        if self._pending:
            await self._send(bytes(self._pending))
        self._committed = True  # even if no reply comes, because the file may have been accepted
        fields = orjson.dumps(asdict(info))
        stored_bytes = self._stored_bytes + len(fields)
        description: list[str | bytes | int] = [
            self.id,
            self._owner,
            fields,
            self._blocks,
            stored_bytes,
            self._staged_bytes,
        ]
        limits = [ttl_s, self._limits.max_bytes, MAX_FILES, self._limits.max_queue_bytes]
        reply = await self._scripts.accept(
            args=[*description, *limits, *self._identity(info, ttl_s, repetition)]
        )
        _raise_refusal(reply)
        if reply != b"accepted":
            self.id = reply.decode()

    def _identity(self, info: FileInfo, ttl_s: int, repetition: Repetition) -> Sequence[str | int]:
        """Returns what accept_file.lua compares with earlier uploads."""
        fields = f"{info.filename}\0{info.purpose}\0{ttl_s}\0{info.model}\0{info.requests}"
        digest, key = self._digest.copy(), repetition.key
        digest.update(fields.encode(errors="surrogatepass"))
        key_digest = blake2b(key.encode(), digest_size=16).hexdigest() if key else ""
        known_s = repetition.key_ttl_s if key else REPEATED_FOR_S
        return digest.hexdigest(), key_digest, int(repetition.is_repeated), known_s

    async def discard(self) -> None:
        """Deletes the blocks. If Redis is unavailable, the blocks expire."""
        if self._blocks and not self._committed:
            with suppress(RedisUnavailable):
                await self._redis.unlink(self._keys.file_blocks(self.id))
                # If no reply came, the last call may have been executed.
                counted = (self._staged_bytes, self._stored_bytes)
                await self._scripts.unstage(args=[self._owner, self.id, *counted])

    async def _send(self, data: bytes) -> None:
        block = pack(data)
        self._memory.check(len(block))
        number, self._blocks = self._blocks, self._blocks + 1
        self._stored_bytes += len(block)
        sizes = (self._stored_bytes, self._staged_bytes, STAGING_TTL_S)
        limits = (self._limits.max_bytes, self._limits.max_queue_bytes)
        staged = [self.id, self._owner, number, block, *sizes, *limits]
        _raise_refusal(await self._scripts.stage_block(args=staged))
        self._staged_bytes = self._stored_bytes


def _raise_refusal(reply: bytes) -> None:
    match reply:
        case b"full":
            raise StorageFull
        case b"bytes_full":
            raise QueueBytesFull
        case b"expired":
            raise FileExpired
        case b"conflict":
            raise IdempotencyConflict


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
        """Discards the blocks if the context raises an exception before the commit."""
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
        """Yields the content. Raises FileNotFound if the file is deleted in the meantime."""
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
        """Returns up to `count` files after a place, with `purpose` if it is not None."""
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
            pipe.hmget(self._keys.file(file_id), _FIELDS)
        replies = await pipe.execute()
        return [
            _parse(file_id, fields, owner)
            for file_id, fields in zip(file_ids, replies, strict=True)
        ]


_FIELDS = ["owner", "created_ms", "expires_ms", "blocks", "info", "used_by"]


def _parse(file_id: str, fields: Sequence[bytes | None], owner: str) -> StoredFile | None:
    stored_owner, created_ms, expires_ms, blocks, info, used_by = fields
    if stored_owner != owner.encode() or not (created_ms and expires_ms and blocks and info):
        return None
    return StoredFile(
        id=file_id,
        created_ms=float(created_ms),
        expires_ms=float(expires_ms),
        blocks=int(blocks),
        info=FileInfo(**orjson.loads(info)),
        used_by=used_by.decode() if used_by else None,
    )
