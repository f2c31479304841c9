"""Decompresses the body of an answer in small pieces.

httpx decompresses a chunk as a whole, and the result can be 1,000 times as large as the chunk.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

import httpx

PIECE_BYTES = 64 * 1024
PAUSE_BYTES = 256 * 1024  # decompressed bytes after which other calls get a turn
_ZLIB_HEADER_BYTES = 2


def body_pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """Returns the pieces of the body, decompressed (RFC 9110, 8.4).

    A piece has at most PIECE_BYTES if the coding is gzip or deflate. httpx decodes other codings.
    The iteration raises httpx.DecodingError if the body is not valid.
    """
    coding = response.headers.get("content-encoding", "").strip().lower().removeprefix("x-")
    if coding in {"gzip", "deflate"}:
        return _decompressed(response, coding)
    return response.aiter_bytes()


async def _decompressed(response: httpx.Response, coding: str) -> AsyncIterator[bytes]:
    decompressor, size = _Decompressor(coding), 0
    try:
        async for chunk in response.aiter_raw():
            for piece in decompressor.decompress(chunk):
                yield piece
                size += len(piece)
                if size >= PAUSE_BYTES:
                    size = 0
                    await asyncio.sleep(0)
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from None


class _Decompressor:
    """Decompresses gzip, or deflate with or without the header of zlib (RFC 1950, RFC 1951)."""

    def __init__(self, coding: str) -> None:
        self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS) if coding == "gzip" else None
        self._start = b""  # bytes that do not yet show the format

    def decompress(self, chunk: bytes) -> Iterator[bytes]:
        if self._stream is None:
            chunk = self._start + chunk
            if len(chunk) < _ZLIB_HEADER_BYTES:
                self._start = chunk
                return
            is_zlib = chunk[0] & 0x0F == zlib.DEFLATED and int.from_bytes(chunk[:2]) % 31 == 0
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        while True:
            piece = self._stream.decompress(chunk, PIECE_BYTES)
            chunk = self._stream.unconsumed_tail
            if piece:
                yield piece
            # After a full piece, the stream may have more output even if no input is left.
            if self._stream.eof or len(piece) < PIECE_BYTES:
                return
