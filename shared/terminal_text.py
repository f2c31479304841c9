"""Makes text from strangers harmless on a terminal.

Models, answers and error messages may contain escape sequences, which set a terminal's title,
colours and links, and bidirectional marks, which change the order of the characters on the screen.
"""

_C0 = {*range(0x20)} - {ord("\t"), ord("\n")}
_C1 = {*range(0x7F, 0xA0)}  # with DEL (U+007F). Terminals read U+009B as ESC [
_BIDIRECTIONAL = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_HIDDEN = sorted(_C0 | _C1 | _BIDIRECTIONAL)
_AS_TEXT = {code: f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" for code in _HIDDEN}  # noqa: PLR2004
_AS_JSON = {code: f"\\u{code:04x}" for code in _HIDDEN}


def visible(text: str) -> str:
    r"""Returns `text`, in which escapes such as \x1b replace control and bidirectional characters.

    Tabs and line breaks stay.
    """
    return text.translate(_AS_TEXT)


def visible_json(line: bytes) -> bytes:
    """Returns the line of JSON with escapes for the characters that `visible` replaces.

    The value of the JSON does not change.
    """
    return line.decode(errors="backslashreplace").translate(_AS_JSON).encode()
