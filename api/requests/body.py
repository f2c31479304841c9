"""Reads the body of a request within limits."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from fastapi import HTTPException, Request, status
from starlette.requests import ClientDisconnect

from api.asgi_scope import MEMORY
from api.media_types import declared_media_type
from api.requests.decompression import PIECE_BYTES, Decompressor, new_decompressor, without_mark
from shared.json_scanner import MAX_PARTS, TooManyParts, check_parts

BODY_COST = 4  # bytes of memory that a byte of a JSON body takes until its items are stored
UNCOUNTED_BYTES = 64 * 1024  # size up to which no memory is reserved for a body
CHUNK_TIMEOUT_S = 60.0  # time within which a client must send the next chunk


def require_media_type(request: Request, allowed: Sequence[str]) -> str:
    """Returns the media type of the body. Raises HTTPException 415 unless it is one of `allowed`.

    Returns the first of `allowed` if the request has no Content-Type.
    """
    media_type = declared_media_type(request.headers, default=allowed[0])
    if media_type not in allowed:
        raise HTTPException(
            status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, f"Content-Type must be {' or '.join(allowed)}"
        )
    return media_type


async def read_json(request: Request, max_bytes: int, setting: str) -> bytearray:
    """Returns the whole body, which is small enough to be parsed as JSON in one step.

    Raises the exceptions of `read_body`, and HTTPException 413 for too many fields and elements.
    """
    body = await read_body(request, max_bytes, setting)
    with refusing_too_many_parts():
        await check_parts(body)
    return body


async def read_body(request: Request, max_bytes: int, setting: str) -> bytearray:
    """Returns the whole body.

    Reserves memory for a body of more than `UNCOUNTED_BYTES` until the request ends. Raises
    MemoryFull, and the exceptions of `body_chunks` and its iteration.
    """
    body = bytearray()
    async for chunk in body_chunks(request, max_bytes, setting):
        body += chunk
        if len(body) > UNCOUNTED_BYTES:
            request.scope[MEMORY].resize(BODY_COST * len(body))
    return body


@contextmanager
def refusing_too_many_parts() -> Iterator[None]:
    """Raises HTTPException 413 instead of TooManyParts."""
    try:
        yield
    except TooManyParts:
        raise HTTPException(
            status.HTTP_413_CONTENT_TOO_LARGE,
            f"the body has more than {MAX_PARTS} fields and elements; send the requests to"
            " POST /jobs as NDJSON, one request per line",
        ) from None


async def held_chunks(
    request: Request, chunks: AsyncIterator[bytes], max_held: int
) -> AsyncIterator[bytes]:
    """Yields the chunks of a body, and reserves memory for the body until the request ends.

    Reserves at most `max_held` bytes, because the caller keeps no more of the body, and nothing
    for a body of up to `UNCOUNTED_BYTES`. The iteration raises MemoryFull.
    """
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > UNCOUNTED_BYTES:
            request.scope[MEMORY].resize(min(size, max_held))
        yield chunk


def body_chunks(request: Request, max_bytes: int, setting: str) -> AsyncIterator[bytes]:
    """Returns the chunks of the body, decompressed and without a byte order mark.

    `max_bytes` limits both the received and the decompressed bytes. `setting` is the name of this
    limit, for the error. Raises HTTPException 415; the iteration raises HTTPException 400, 408 or
    413.
    """
    too_large = HTTPException(
        status.HTTP_413_CONTENT_TOO_LARGE,
        f"the body is larger than {max_bytes} bytes ({setting})",
        headers={"Connection": "close"},
    )
    decompressor = new_decompressor(request.headers.get("content-encoding"))
    received = _received(request, max_bytes, too_large)
    return _decompressed(received, decompressor, max_bytes, too_large) if decompressor else received


async def _decompressed(
    received: AsyncIterator[bytes],
    decompressor: Decompressor,
    max_bytes: int,
    too_large: HTTPException,
) -> AsyncIterator[bytes]:
    size = 0
    start: bytes | None = b""  # None when no byte order mark can follow
    async for chunk in received:
        for piece in decompressor.decompress(chunk):
            size += len(piece)
            if size > max_bytes:
                raise too_large
            if start is None:
                yield piece
            else:
                rest, start = without_mark(start + piece)
                yield rest
            if len(piece) == PIECE_BYTES:
                await asyncio.sleep(
                    0
                )  # lets other requests run, because one chunk may contain many pieces
    decompressor.finish()
    if start:
        yield start


async def _received(
    request: Request, max_bytes: int, too_large: HTTPException
) -> AsyncIterator[bytes]:
    """Yields the chunks of the body without a byte order mark.

    FastAPI's `max_body_size` is not used, because it continues to read a body that it has refused.
    """
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large
    size = 0
    start: bytes | None = b""  # None when no byte order mark can follow
    stream = aiter(request.stream())
    try:
        while True:
            async with asyncio.timeout(CHUNK_TIMEOUT_S):
                chunk = await anext(stream, None)
            if chunk is None:
                break
            size += len(chunk)
            if size > max_bytes:
                raise too_large
            if start is not None:
                chunk, start = without_mark(start + chunk)
            yield chunk
    except ClientDisconnect:
        raise HTTPException(
            status.HTTP_400_BAD_REQUEST, "the body ended early; send the request again"
        ) from None
    except TimeoutError:
        raise HTTPException(
            status.HTTP_408_REQUEST_TIMEOUT,
            f"the client sent no data for {CHUNK_TIMEOUT_S:g} s; send the request again",
        ) from None
    if start:
        yield start
