"""Stores the blocks of a file while they arrive, and makes the file visible at the end."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from uuid import uuid4

import orjson
from redis.asyncio import Redis

from shared.files.blocks import BLOCK_BYTES, pack
from shared.files.errors import FileExpired, StorageFull
from shared.files.stored_file import FileInfo
from shared.jobs.staging import STAGING_TTL_S
from shared.jobs.submission import IdempotencyConflict, QueueBytesFull
from shared.queue.redis_keys import Keys
from shared.queue.scripts import load_script
from shared.redis.client import RedisUnavailable
from shared.redis.memory import RedisMemory

MAX_FILES = 10_000  # limit per owner
REPEATED_FOR_S = 3600  # OpenAI's clients repeat an upload up to twice, each time after 600 s


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Limits the bytes that one owner keeps. The bytes of files count after their compression.

    max_bytes: limit of the files.
    max_queue_bytes: limit of the files and of the requests of unfinished jobs together.
    """

    max_bytes: int
    max_queue_bytes: int


class UploadScripts:
    """Holds the scripts that store an upload: stage_block, accept_file and unstage, in
    shared/queue/lua/."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.stage_block, self.accept, self.unstage = (
            load_script(redis, keys, name) for name in ("stage_block", "accept_file", "unstage")
        )


@dataclass(frozen=True, slots=True)
class Repetition:
    """Says how an upload is found again if its client repeats it.

    is_repeated: whether the client says that it sends the upload again. Without a key, such an
        upload gets the file of an equal upload of the last hour, unless a batch has used the file.
    key: an idempotency key. An equal upload with the same key gets the same file; another upload
        with the same key raises IdempotencyConflict.
    key_ttl_s: time for which the key is known, if the file does not expire before.
    """

    is_repeated: bool = False
    key: str | None = None
    key_ttl_s: int = 0


class FileUpload:
    """Stores the blocks of a file. The file cannot be read before `commit`."""

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
        self._staged_bytes = 0  # bytes that Redis counts for the owner
        self._committed = False
        self._digest = blake2b(digest_size=16)
        self.id = f"file-{uuid4().hex}"
        self.size = 0

    async def add(self, data: bytes) -> None:
        """Stores the next bytes. Raises StorageFull, QueueBytesFull, RedisFull."""
        self.size += len(data)
        self._digest.update(data)
        self._pending += data
        while len(self._pending) >= BLOCK_BYTES:
            await self._send(bytes(self._pending[:BLOCK_BYTES]))
            del self._pending[:BLOCK_BYTES]

    async def commit(self, info: FileInfo, ttl_s: int, repetition: Repetition) -> None:
        """Sends the rest of the file, and makes the file visible.

        If the upload is a repetition, `id` becomes the id of the earlier file, and nothing is
        stored. Raises FileRejected, QueueBytesFull, IdempotencyConflict, RedisFull.
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
        """Returns the values that accept_file.lua compares with earlier uploads."""
        fields = f"{info.filename}\0{info.purpose}\0{ttl_s}\0{info.model}\0{info.requests}"
        digest, key = self._digest.copy(), repetition.key
        digest.update(fields.encode(errors="surrogatepass"))
        key_digest = blake2b(key.encode(), digest_size=16).hexdigest() if key else ""
        known_s = repetition.key_ttl_s if key else REPEATED_FOR_S
        return digest.hexdigest(), key_digest, int(repetition.is_repeated), known_s

    async def discard(self) -> None:
        """Deletes the blocks, unless `commit` was called. If Redis is unavailable, they expire."""
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
