"""Parses cursors. A client sends back the cursor of a response to read what follows."""

from typing import Annotated

from fastapi import Depends, Query

from api.errors.exception_types import InvalidCursor

MAX_DIGITS = 18


def parse_cursor(text: str, parameter: str) -> int:
    """Returns the cursor. Raises InvalidCursor unless `text` is 1 to `MAX_DIGITS` digits.

    parameter: the name of the query parameter or header, for the error.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise InvalidCursor(parameter)
    return int(text)


async def _page(
    cursor: Annotated[
        str | None,
        Query(description="The `next_cursor` of the previous page. Default: the first page."),
    ] = None,
) -> int | None:
    return None if cursor is None else parse_cursor(cursor, "cursor")


async def _after(
    after: Annotated[
        str,
        Query(
            description="The `cursor` of the last line that you have read. The results continue"
            " after that line."
        ),
    ] = "0",
) -> int:
    return parse_cursor(after, "after")


PageCursor = Annotated[int | None, Depends(_page)]
AfterCursor = Annotated[int, Depends(_after)]
