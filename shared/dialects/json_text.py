"""Reads the JSON of a provider's answer, even if a strict parser would refuse the JSON.

Some providers send good answers with parts that JSON (RFC 8259) does not allow: a byte order mark,
comments that keep the connection open, broken UTF-8, half of a surrogate pair, control characters
in strings, NaN. Such an answer has been paid for, so its text is repaired. A text that is not
complete stays invalid.
"""

import json
import re
from typing import Any

import orjson

# White space before the JSON, and comment lines, which begin with ":" (server-sent events), "//" or
# "#".
_BEFORE = re.compile(r"(?:[\s\ufeff]+|(?::|//|#)[^\n]*(?:\n|\Z))*+")
# A string (the text may end before the string ends), NaN or Infinity (which JSON does not have), or
# line ends between values.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|-?Infinity|NaN|[\r\n]+', re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f]")
_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(
    rf"(?P<pair>{_PAIR})|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{{2}})|\\.", re.DOTALL
)
_MAX_INTEGER_DIGITS = 18


def read_json(body: bytes) -> tuple[Any, bytes]:
    """Returns the value of a JSON text, and the text, which is repaired if necessary.

    Raises ValueError if the text is not JSON, or not complete.
    """
    try:
        return orjson.loads(body), body
    except orjson.JSONDecodeError:
        text = _repair(body.decode(errors="replace"))
    repaired = text.encode()
    try:
        return orjson.loads(repaired), repaired
    except orjson.JSONDecodeError:
        return _loads(text), repaired


def one_line(text: bytes) -> str:
    """Returns a JSON text with spaces for its line ends.

    No value changes, because a line end inside a JSON string is escaped.
    """
    return text.replace(b"\r", b" ").replace(b"\n", b" ").decode()


def _repair(text: str) -> str:
    before = _BEFORE.match(text)
    return _TOKEN.sub(_repair_token, text[before.end() if before else 0 :])


def _repair_token(token: re.Match[str]) -> str:
    text = token.group()
    if text[0] == '"':
        text = _CONTROL.sub(lambda control: f"\\u{ord(control.group()):04x}", text)
        return _ESCAPE.sub(lambda escape: r"\ufffd" if escape["half"] else escape.group(), text)
    return " " if text[0] in "\r\n" else "null"


def _loads(text: str) -> Any:  # noqa: ANN401 — JSON
    """Returns the value of a JSON text that may have numbers that orjson refuses, such as 1e999.

    Raises ValueError.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else float(digits)
