"""Decompresses a request body (Content-Encoding, RFC 9110, 8.4) and removes a byte order mark.

Programs on Windows put the mark in front of text in UTF-8.
"""

import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator

from fastapi import HTTPException, status

PIECE_BYTES = (
    64 * 1024
)  # limit of a piece, because a small chunk may decompress to 1,000 times its size
_ZLIB_HEADER_BYTES = 2
_SUPPORTED = ("gzip", "deflate")


def without_mark(start: bytes) -> tuple[bytes, bytes | None]:
    """Removes a byte order mark, if there is one, from the start of a body.

    Returns the rest, and None. If the start is too short to decide, returns b"" and the start. The
    caller must then put the start in front of the next chunk.
    """
    if len(start) < len(BOM_UTF8) and BOM_UTF8.startswith(start):
        return b"", start
    return start.removeprefix(BOM_UTF8), None


def new_decompressor(content_encoding: str | None) -> "Decompressor | None":
    """Returns a decompressor for one body, or None if the body is not compressed.

    Raises HTTPException 415 if the coding is not supported, or if there is more than one.
    """
    if not content_encoding:
        return None
    codings = [coding.strip().lower().removeprefix("x-") for coding in content_encoding.split(",")]
    match [coding for coding in codings if coding not in {"", "identity"}]:
        case []:
            return None
        case ["gzip" | "deflate" as coding]:
            return Decompressor(coding)
    raise HTTPException(
        status.HTTP_415_UNSUPPORTED_MEDIA_TYPE,
        f"Content-Encoding {content_encoding[:100]!r} is not supported; compress the body with"
        " gzip or deflate, or send it without compression",
        headers={"Accept-Encoding": ", ".join(_SUPPORTED)},
    )


class Decompressor:
    """Decompresses gzip (RFC 1952) with any number of members, or deflate.

    Deflate has the header of zlib (RFC 1950), but some clients leave the header out (RFC 1951).
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream: zlib._Decompress | None = None
        self._streams = 0  # number of streams that have ended
        self._start = b""  # bytes of the next stream that do not yet show its format

    def decompress(self, chunk: bytes) -> Iterator[bytes]:
        """Yields pieces of at most `PIECE_BYTES`. Raises HTTPException 400 for invalid data."""
        try:
            yield from self._decompress(self._start + chunk)
        except zlib.error:
            raise self._invalid(f"the body is not valid {self._coding}") from None

    def finish(self) -> None:
        """Raises HTTPException 400 if the end of the body is missing."""
        if self._stream or self._start:
            raise self._invalid(f"the {self._coding} body ended early; send the request again")

    def _decompress(self, data: bytes) -> Iterator[bytes]:
        more = bool(data)
        while more:
            if self._stream is None:
                data = self._begin(data)
                if self._stream is None:
                    return
            piece = self._stream.decompress(data, PIECE_BYTES)
            # After a full piece, the stream may contain more output although it has no input.
            data, more = self._stream.unconsumed_tail, len(piece) == PIECE_BYTES
            if self._stream.eof:
                data = self._stream.unused_data
                self._stream, self._streams = None, self._streams + 1
                more = bool(data)
            if piece:
                yield piece

    def _begin(self, data: bytes) -> bytes:
        """Begins the next stream if `data` has enough bytes, and returns the data of the stream.

        Raises zlib.error if data follows the end of a deflate stream.
        """
        self._start = b""
        if self._coding == "gzip":
            data = data.lstrip(b"\0") if self._streams else data  # padding between members
            if data:
                self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
        elif self._streams:
            raise zlib.error
        elif len(data) < _ZLIB_HEADER_BYTES:
            self._start = data
        else:
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if _is_zlib(data) else -zlib.MAX_WBITS)
        return data

    def _invalid(self, reason: str) -> HTTPException:
        # The connection is closed, because the rest of the body is not read.
        return HTTPException(status.HTTP_400_BAD_REQUEST, reason, headers={"Connection": "close"})


def _is_zlib(data: bytes) -> bool:
    header = int.from_bytes(data[:_ZLIB_HEADER_BYTES])
    return data[0] & 0x0F == zlib.DEFLATED and header % 31 == 0
