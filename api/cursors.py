"""Cursors: numbers in responses that a client sends back to continue reading after them."""

from typing import Annotated

from fastapi import Depends, Query

MAX_DIGITS = 18


class InvalidCursor(Exception):
    """The text is not a cursor of this API."""

    def __init__(self, parameter: str) -> None:
        super().__init__(parameter)
        self.parameter = parameter


def parse_cursor(text: str, parameter: str) -> int:
    """Raises InvalidCursor with the name of the `parameter` that has it."""
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise InvalidCursor(parameter)
    return int(text)


async def _page(
    cursor: Annotated[
        str | None, Query(description="The `next_cursor` of the page before; none: the first page.")
    ] = None,
) -> int | None:
    return None if cursor is None else parse_cursor(cursor, "cursor")


async def _after(
    after: Annotated[
        str,
        Query(
            description="The `cursor` of the last line that was read; results continue after it."
        ),
    ] = "0",
) -> int:
    return parse_cursor(after, "after")


PageCursor = Annotated[int | None, Depends(_page)]
AfterCursor = Annotated[int, Depends(_after)]
