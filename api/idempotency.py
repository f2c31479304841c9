"""The Idempotency-Key header, draft-ietf-httpapi-idempotency-key-header-07."""

import re
from typing import Annotated

from fastapi import Depends, Header

from api.errors import validation_error

MAX_KEY = 255
_STRING = re.compile(r'"((?:[^"\\]|\\["\\])*)"')  # RFC 8941, 3.3.3
_DESCRIPTION = "Same key and body: the same job, until `IDEMPOTENCY_TTL_SECONDS` after its end."


async def _key(
    header: Annotated[str | None, Header(alias="Idempotency-Key", description=_DESCRIPTION)] = None,
) -> str | None:
    """A structured-field string or, as most clients have it, without the quotes."""
    if header is None:
        return None
    quoted = _STRING.fullmatch(header)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else header
    if not 0 < len(key) <= MAX_KEY or not (key.isascii() and key.isprintable()):
        raise validation_error(
            f"should be 1 to {MAX_KEY} printable ASCII characters", "header", "Idempotency-Key"
        )
    return key


IdempotencyKey = Annotated[str | None, Depends(_key)]
