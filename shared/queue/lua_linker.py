"""Links a Lua script with the parts that it includes.

The line `--- @include "part"` includes `lua/lib/part.lua`, and the parts that this file itself
includes. A file may use its own names. It may also use names of each file that it includes: the
names that this file lists after "Defines for other files:". A part consists of declarations that
begin in the first column:

    local function name(…) … end
    local name, name = value, value    -- not nil

To create all functions of a script in each run would cost more than most runs do. So each name is a
field of the table `parts`, which creates a field when it is first read. The names that a part
lists after "Used in each round:" are local variables of the script instead, because these are
faster. If a name in upper case has a number or a string as its value, the value replaces the name.
Declarations that a script does not use are left out. If a part lists no names for other files, its
text is put before the script's body.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Read = Callable[[str], str]

_INCLUDE = re.compile(r'^--- @include "([a-z_]+)"\n', re.MULTILINE)
_DEFINES = re.compile(r"^-- Defines for other files: ((?:.*,\n-- )*.*)$", re.MULTILINE)
_EAGER = re.compile(r"^-- Used in each round: ((?:.*,\n-- )*.*)$", re.MULTILINE)
_FUNCTION = re.compile(r"local function (\w+)(.*)", re.DOTALL)
_LOCAL = re.compile(r"local ([\w, ]+?)(?: = (.*))?", re.DOTALL)
_INNER = re.compile(
    r"\blocal (?!function )([\w, ]+)|\bfunction ?(\w*)\(([\w, .]*)\)|\bfor ([\w, ]+) (?:in|=)"
)
_LITERAL = re.compile(r"-?\d+(?:\.\d+)?|'[^'\\]*'")
# A comment, a string, a field, a name, or a character that separates values.
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*)|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?<!\.)\.\w+"""
    r"""|(?P<name>\b[A-Za-z_]\w*)|[{}(),]""",
    re.DOTALL,
)
_REFERENCE = re.compile(r"\bparts\.\w+|\b\w+")


@dataclass
class _File:
    """Holds a file of a script: its names with their values, and the statements of a body."""

    name: str
    includes: list[str]
    exported: list[str]
    eager: list[str]
    declared: dict[str, str]
    body: str


def link(name: str, read: Read) -> str:
    """Returns the source of a script: the shebang line, the parts, the body.

    `read` returns the text of a file in `lua/`, for example of 'lib/clock.lua'.

    Raises:
        ValueError: a file declares a name of a file that it includes, or uses a name of a file that
            it does not include, or does not define a name that it lists, or has a declaration that
            cannot be linked.
    """
    shebang, text = read(f"{name}.lua").split("\n", 1)  # Redis needs it in the first line
    parts = _read_parts(text, read, {})
    exports = {part: _exports(file) for part, file in parts.items()}
    values: dict[str, str] = {}
    body = ""
    for file in [*parts.values(), _parse(name, text, is_body=True)]:
        names = _visible(file, exports)
        values |= {
            names[own]: _replace(file.name, value, names)
            for own, value in file.declared.items()
            if names[own] != value
        }
        body += _replace(file.name, file.body, names)
    return f"{shebang}\n{_create(_used(body, values))}{body}"


def _read_parts(text: str, read: Read, parts: dict[str, _File]) -> dict[str, _File]:
    """Adds the parts that a text includes to `parts`, and returns `parts`.

    If a part includes other parts, these come before it.
    """
    for part in _INCLUDE.findall(text):
        if part not in parts:
            source = read(f"lib/{part}.lua")
            _read_parts(source, read, parts)
            parts[part] = _parse(part, source, is_body=not _DEFINES.search(source))
    return parts


def _parse(name: str, text: str, *, is_body: bool) -> _File:
    file = _File(
        name, _INCLUDE.findall(text), _listed(_DEFINES, text), _listed(_EAGER, text), {}, ""
    )
    if is_body:
        file.body = _INCLUDE.sub("", text)
        return file
    for statement in _statements(text):
        if function := _FUNCTION.fullmatch(statement):
            file.declared[function[1]] = f"function{function[2]}"
        else:
            file.declared |= _values(name, statement)
    if missing := {*file.exported, *file.eager} - file.declared.keys():
        raise ValueError(f"{name}.lua does not define {sorted(missing)}")
    return file


def _listed(names: re.Pattern[str], text: str) -> list[str]:
    found = names.search(text)
    return re.findall(r"\w+", found[1]) if found else []


def _statements(text: str) -> list[str]:
    """Returns the statements of a part. Each begins in the first column of a line."""
    statements: list[str] = []
    for line in text.splitlines():
        if re.match(r"(?!end\b)\w", line):
            statements.append(line)
        elif statements and not line.startswith("--"):
            statements[-1] += f"\n{line}"
    return [statement.rstrip() for statement in statements]


def _values(file: str, statement: str) -> dict[str, str]:
    declaration = _LOCAL.fullmatch(_without_comments(statement))
    if not declaration:
        raise ValueError(f"{file}.lua has a statement that declares nothing: {statement}")
    names, values = declaration[1].split(", "), _split(declaration[2] or "")
    if len(names) != len(values) or "nil" in values:
        raise ValueError(f"{file}.lua declares {names}: each needs a value that is not nil")
    return dict(zip(names, values, strict=True))


def _without_comments(text: str) -> str:
    return _TOKEN.sub(lambda token: "" if token["comment"] else token[0], text).rstrip()


def _split(values: str) -> list[str]:
    """Returns the values that are separated by commas outside of braces and parentheses."""
    depth, start, found = 0, 0, []
    for token in _TOKEN.finditer(values):
        depth += (token[0] in "{(") - (token[0] in "})")
        if token[0] == "," and depth == 0:
            found.append(values[start : token.start()])
            start = token.end()
    return [value.strip() for value in [*found, values[start:]] if value.strip()]


def _exports(file: _File) -> dict[str, str]:
    return {name: _reference(name, file) for name in file.exported}


def _reference(name: str, file: _File) -> str:
    """Returns the text that replaces a declared name: its value, a local variable, or a field."""
    value = file.declared[name]
    if name.isupper() and _LITERAL.fullmatch(value):
        return value
    unique = name if name in file.exported else f"{file.name}__{name}"
    return unique if name in file.eager else f"parts.{unique}"


def _visible(file: _File, exports: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Returns the texts that replace the names in a file; '' for names that it must not use.

    Raises ValueError if the file declares a name twice, or declares a name that it includes.
    """
    included = {name: to for part in file.includes for name, to in exports[part].items()}
    own = {name: _reference(name, file) for name in file.declared}
    inner = {name for text in [*file.declared.values(), file.body] for name in _inner_names(text)}
    if clashes := included.keys() & own.keys() | inner & (included.keys() | own.keys()):
        raise ValueError(f"{file.name}.lua declares {sorted(clashes)} again")
    invisible = {name for names in exports.values() for name in names} - inner
    return dict.fromkeys(invisible, "") | included | own


def _inner_names(text: str) -> set[str]:
    """Returns the names that are declared in a text: local names and parameters of functions."""
    return {
        name
        for groups in _INNER.findall(text)
        for names in groups
        for name in re.findall(r"\w+", names)
    }


def _replace(file: str, source: str, names: Mapping[str, str]) -> str:
    """Replaces `names` in a source, except in comments, in strings and where they are keys."""
    result, end, before = [], 0, ""
    for token in _TOKEN.finditer(source):
        result.append(source[end : token.start()])
        end = token.end()
        is_key = before in ("{", ",") and re.match(r" = ", source[end:]) and _depth(result) > 0
        text = token[0]
        if token["name"] and text in names and not is_key:
            if not names[text]:
                raise ValueError(f"{file}.lua uses {text} and does not include its file")
            text = names[text]
        result.append(text)
        before = token[0]
    return "".join([*result, source[end:]])


def _depth(texts: Sequence[str]) -> int:
    return sum((text == "{") - (text == "}") for text in texts)


def _used(body: str, values: Mapping[str, str]) -> dict[str, str]:
    """Returns the values that a body uses, directly or through other values, in their order."""
    used: set[str] = set()
    texts = [body]
    while texts:
        found = {name for name in _REFERENCE.findall(texts.pop()) if name in values} - used
        used |= found
        texts += [values[name] for name in found]
    return {name: value for name, value in values.items() if name in used}


def _create(values: Mapping[str, str]) -> str:
    """Returns the statements that declare the local variables and `parts`."""
    fields = {
        name.removeprefix("parts."): value
        for name, value in values.items()
        if name.startswith("parts.")
    }
    variables = [name for name in values if not name.startswith("parts.")]
    # Lua finds the variables that a function captures from the last to the first.
    uses = Counter(name for value in values.values() for name in set(_REFERENCE.findall(value)))
    by_use = sorted(variables, key=lambda name: uses[name])
    source = f"local {', '.join(by_use)}\n" if variables else ""
    if fields:
        by_length: dict[int, list[str]] = {}
        for name in fields:
            by_length.setdefault(len(name), []).append(name)
        source += (
            "local parts = {}\nsetmetatable(parts, { __index = function(_, name)\n"
            f"local value, length = nil, #name\n{_choice(sorted(by_length), by_length, fields)}\n"
            "parts[name] = value\nreturn value\nend })\n"
        )
    return source + "".join(f"{name} = {values[name]}\n" for name in variables)


def _choice(
    lengths: Sequence[int], by_length: Mapping[int, Sequence[str]], values: Mapping[str, str]
) -> str:
    """Returns the statement that sets `value`: first by the length of the name, then by the name.

    To compare a name with the names of all fields would cost more than to create a field.
    """
    if len(lengths) == 1:
        branches = [
            f"if name == '{name}' then\nvalue = {values[name]}\n" for name in by_length[lengths[0]]
        ]
        return "else".join(branches) + "end"
    middle = len(lengths) // 2
    return (
        f"if length < {lengths[middle]} then\n{_choice(lengths[:middle], by_length, values)}\n"
        f"else\n{_choice(lengths[middle:], by_length, values)}\nend"
    )
