"""Splits the text of a JSON object into its members, so that the text of a member can be kept.

Parsing a body and writing it again would change numbers, because JSON's numbers have any number of
digits and Python's do not.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_MEMBERS = 10_000  # a member takes more time and memory than its text
_skip_spaces = re.compile(r"[ \t\r\n]*").match
_plain_name = re.compile(r'("[^"\\\x00-\x1f]*")[ \t\r\n]*:[ \t\r\n]*').match
_comma = re.compile(r"[ \t\r\n]*,[ \t\r\n]*").match


class InvalidJson(ValueError):
    """The text is not a JSON object, or an object that this API does not accept.

    `str(error)` is the reason.
    """


@dataclass(slots=True)  # not frozen: a line has several members, and frozen ones are slow to create
class Member:
    """Holds a member of an object: its parsed value, and the texts of its name and its value."""

    value: Any
    name_text: str
    value_text: str

    @property
    def text(self) -> str:
        return f"{self.name_text}:{self.value_text}"


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidJson(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def object_members(text: str) -> dict[str, Member]:
    """Returns the members of the object in `text`, by name and in their order.

    Raises InvalidJson, also if a name occurs twice.
    """
    try:
        return _members(text)
    except RecursionError:
        raise InvalidJson("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(f"the JSON is invalid at character {error.pos}: {error.msg}") from None
    except InvalidJson:
        raise
    except ValueError:  # Python does not parse integers of thousands of digits
        raise InvalidJson("the JSON contains a number with too many digits") from None


def one_line(text: str) -> str:
    """Returns the JSON in one line. In valid JSON, a line break is never inside a string."""
    return text.replace("\n", " ").replace("\r", " ")


def _members(text: str) -> dict[str, Member]:
    members: dict[str, Member] = {}
    position = _expect(text, 0, "{")
    if text[position : position + 1] == "}":
        _expect_end(text, position + 1)
        return members
    while True:
        name, name_text, start = _name(text, position)
        value, end = _DECODER.raw_decode(text, start)
        if name in members:
            raise InvalidJson(f"the field {name_text} occurs twice")
        members[name] = Member(value, name_text, text[start:end])
        if len(members) > MAX_MEMBERS:
            raise InvalidJson(f"the object has more than {MAX_MEMBERS} fields")
        if comma := _comma(text, end):
            position = comma.end()
            continue
        position = _end_of_spaces(text, end)
        if text[position : position + 1] == "}":
            _expect_end(text, position + 1)
            return members
        raise json.JSONDecodeError("expected ','", text, position)


def _name(text: str, position: int) -> tuple[str, str, int]:
    """Returns a member's name, the name's text, and the position of the member's value."""
    if plain := _plain_name(text, position):
        return plain[1][1:-1], plain[1], plain.end()
    if text[position : position + 1] != '"':
        raise json.JSONDecodeError("expected a name in double quotes", text, position)
    name, end = _DECODER.raw_decode(text, position)
    return name, text[position:end], _expect(text, end, ":")


def _expect(text: str, position: int, character: str) -> int:
    """Returns the position of the first character after `character` that is not a space.

    Raises JSONDecodeError if something other than spaces precedes `character`.
    """
    position = _end_of_spaces(text, position)
    if text[position : position + 1] != character:
        raise json.JSONDecodeError(f"expected {character!r}", text, position)
    return _end_of_spaces(text, position + 1)


def _expect_end(text: str, position: int) -> None:
    position = _end_of_spaces(text, position)
    if position != len(text):
        raise json.JSONDecodeError("expected the end of the line", text, position)


def _end_of_spaces(text: str, position: int) -> int:
    match = _skip_spaces(text, position)
    return match.end() if match else position
