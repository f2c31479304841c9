"""Links a Lua script with the parts that it includes.

To create all functions of a script in each run would cost more than most runs do. So a function of
a part is created when a run uses it first, and so is each value that a part declares.

The line `--- @include "part"` includes `lua/lib/part.lua`, and the parts that this file itself
includes. A file may use its own names, and the names that the files it includes list after "Defines
for other files:". A part consists of declarations that begin in the first column:

    local function name(…) … end
    local name, name = value, value    -- evaluated at their first use; not nil

Each name becomes a field of the table `parts`, which creates a field when it is read first. A
number or a string with a name in upper case is written where it is used. A part that defines no
name is a part of the script's body. The functions of the body are linked as those of a part, and so
are the variables that these functions use. The other statements of the body run in their order.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Read = Callable[[str], str]

_INCLUDE = re.compile(r'^--- @include "([a-z_]+)"\n', re.MULTILINE)
_DEFINES = re.compile(r"^-- Defines for other files: ((?:.*,\n-- )*.*)$", re.MULTILINE)
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
_FIELD = re.compile(r"\bparts\.(\w+)")


@dataclass
class _File:
    """A file of a script: its names with their values, and its other statements."""

    name: str
    includes: list[str]
    exported: list[str]
    declared: dict[str, str] = field(default_factory=dict)
    body: list[str] = field(default_factory=list)


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
    script = _parse(name, text, is_body=True)
    exports = {part: _exports(file) for part, file in parts.items()}
    values: dict[str, str] = {}
    statements: list[str] = []
    for file in [*parts.values(), script]:
        names = _visible(file, exports)
        values |= {
            names[own].removeprefix("parts."): _replace(file.name, value, names)
            for own, value in file.declared.items()
            if names[own].startswith("parts.")
        }
        statements += [_replace(file.name, statement, names) for statement in file.body]
    body = "\n".join(statements)
    return f"{shebang}\n{_create(_used(body, values))}{body}\n"


def _read_parts(text: str, read: Read, parts: dict[str, _File]) -> dict[str, _File]:
    """Adds the parts that a text includes, and the parts that these include, to `parts`."""
    for part in _INCLUDE.findall(text):
        if part not in parts:
            source = read(f"lib/{part}.lua")
            parts[part] = _parse(part, source, is_body=not _DEFINES.search(source))
            _read_parts(source, read, parts)
    return parts


def _parse(name: str, text: str, *, is_body: bool) -> _File:
    found = _DEFINES.search(text)
    exported = re.findall(r"\w+", found[1]) if found else []
    file = _File(name, _INCLUDE.findall(text), exported)
    statements = _statements(text)
    captured = {
        token
        for text in statements
        if _FUNCTION.match(text)
        for token in set(re.findall(r"\w+", text)) - _inner_names(text)
    }
    for statement in statements:
        if function := _FUNCTION.fullmatch(statement):
            file.declared[function[1]] = f"function{function[2]}"
        elif is_body and not _is_constant(statement):
            file.body.append(_body_statement(file, statement, captured))
        else:
            file.declared |= _values(name, statement)
    if missing := set(exported) - file.declared.keys():
        raise ValueError(f"{name}.lua does not define {sorted(missing)}")
    return file


def _is_constant(statement: str) -> bool:
    found = _LOCAL.fullmatch(_without_comments(statement))
    return bool(found and found[1].isupper() and _LITERAL.fullmatch(found[2] or ""))


def _statements(text: str) -> list[str]:
    """Returns the statements of a file. Each begins in the first column of a line."""
    statements: list[str] = []
    for line in text.splitlines():
        if re.match(r"(?!(end|else|elseif|until)\b)\w", line):
            statements.append(line)
        elif statements and not line.startswith("--"):
            statements[-1] += f"\n{line}"
    return [statement.rstrip() for statement in statements]


def _values(file: str, statement: str) -> dict[str, str]:
    """Returns the values that a statement of a part declares, by name."""
    declaration = _LOCAL.fullmatch(_without_comments(statement))
    if not declaration:
        raise ValueError(f"{file}.lua has a statement that declares nothing: {statement}")
    names, values = declaration[1].split(", "), _split(declaration[2] or "")
    if len(names) != len(values) or "nil" in values:
        raise ValueError(f"{file}.lua declares {names}: each needs a value that is not nil")
    return dict(zip(names, values, strict=True))


def _body_statement(file: _File, statement: str, captured: Iterable[str]) -> str:
    """Returns a statement. The names that functions of the body use are declared as fields."""
    declaration = _LOCAL.fullmatch(statement)
    names = set(re.findall(r"\w+", declaration[1])) if declaration else set()
    if not names & set(captured):
        return statement
    file.declared |= dict.fromkeys(names, "nil")
    return statement.removeprefix("local ") if declaration and declaration[2] else ""


def _without_comments(text: str) -> str:
    return _TOKEN.sub(lambda token: "" if token["comment"] else token[0], text).rstrip()


def _split(values: str) -> list[str]:
    """Splits at the commas that are not in brackets."""
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
    """Returns what stands for a declared name: its value, or a field."""
    value = file.declared[name]
    if name.isupper() and _LITERAL.fullmatch(value):
        return value
    return f"parts.{name}" if name in file.exported else f"parts.{file.name}__{name}"


def _visible(file: _File, exports: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Returns what stands for the names in a file; '' for names that it must not use."""
    included = {name: to for part in file.includes for name, to in exports[part].items()}
    own = {name: _reference(name, file) for name in file.declared}
    inner = {
        name
        for text in [*file.declared.values(), *(one.removeprefix("local ") for one in file.body)]
        for name in _inner_names(text)
    }
    body_locals = {
        name
        for statement in file.body
        if (found := _LOCAL.fullmatch(statement))
        for name in re.findall(r"\w+", found[1])
    }
    clashes = included.keys() & (own.keys() | body_locals) | inner & (included.keys() | own.keys())
    if clashes:
        raise ValueError(f"{file.name}.lua declares {sorted(clashes)} again")
    invisible = {name for names in exports.values() for name in names} - inner - body_locals
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
    """Returns a source in which `names` are replaced, but not in strings and as keys of tables."""
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
    """Returns the fields that a body uses, and the fields that these use."""
    used: dict[str, str] = {}
    texts = [body]
    while texts:
        for name in _FIELD.findall(texts.pop()):
            if name not in used and values.get(name, "nil") != "nil":
                used[name] = values[name]
                texts.append(values[name])
    return used


def _create(values: Mapping[str, str]) -> str:
    """Returns the statement that declares `parts`."""
    if not values:
        return ""
    by_length: dict[int, list[str]] = {}
    for name in values:
        by_length.setdefault(len(name), []).append(name)
    choice = _choice(sorted(by_length), by_length, values)
    return (
        "local parts = {}\nsetmetatable(parts, { __index = function(_, name)\n"
        f"local value, length = nil, #name\n{choice}\nparts[name] = value\nreturn value\nend }})\n"
    )


def _choice(
    lengths: Sequence[int], by_length: Mapping[int, Sequence[str]], values: Mapping[str, str]
) -> str:
    """Returns the statement that sets `value`: first by the length of the name, then by the name.

    To compare a name with all others would cost more than to create the field.
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
