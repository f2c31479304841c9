"""Loads the Lua scripts. Each script is atomic, and no other code moves an item."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from redis.asyncio import Redis

from shared.providers import WEBHOOK_LANE
from shared.providers.row import MAX_KEYS
from shared.queue.ids import DELIVERY_SUFFIX
from shared.queue.keys import META_ITEMS, SHARED_ROUTE, Keys, lua_string
from shared.redis.client import Script

Constants = Mapping[str, float | str]

ADAPTIVE_START = 10  # number of running calls at which an adaptive limit starts
NONE: Constants = MappingProxyType({})
_COMMON: Constants = {
    "WEBHOOK_LANE": WEBHOOK_LANE,
    "DELIVERY_SUFFIX": DELIVERY_SUFFIX,
    "MAX_KEYS": MAX_KEYS,
    "ADAPTIVE_START": ADAPTIVE_START,
    "META_ITEMS": META_ITEMS,
    "SHARED_ROUTE": SHARED_ROUTE,
}
_CONSTANT = re.compile(r"\b[A-Z][A-Z_]+\b")
_INCLUDE = re.compile(r'^--- @include "([a-z_]+)"\n', re.MULTILINE)
_DEFINES = re.compile(r"^-- Defines for other files: ((?:.*,\n-- )*.*)$", re.MULTILINE)
_DECLARED = re.compile(
    r"\blocal (?!function )([\w, ]+)|\bfunction ?(\w*)\(([\w, .]*)\)|\bfor ([\w, ]+) (?:in|=)"
)
# A comment, a string, a field, or a name.
_TOKEN = re.compile(
    r"""--[^\n]*|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?<!\.)\.\w+|\b[A-Za-z_]\w*""", re.DOTALL
)


def load_script(redis: Redis, keys: Keys, name: str, constants: Constants = NONE) -> Script:
    """Returns `lua/{name}.lua` as a callable. `assemble` describes the constants and parts."""
    return Script(redis, assemble(keys, name, constants))


def assemble(keys: Keys, name: str, constants: Constants = NONE) -> str:
    """Returns the complete source of a script: shebang line, included parts, body.

    A constant's name is replaced by its value. Key names are constants, too: see `Keys`.
    The line `--- @include "part"` includes `lua/lib/part.lua`, and the parts that this file itself
    includes. A file may use the names that the files it includes list after "Defines for other
    files:". These names are fields of the table `parts`, and the fields of a part are created when
    one of them is used first: to create all functions would cost more than most rounds of a worker
    do. A part that defines no name is a part of the body.

    Raises:
        ValueError: a file declares a name of a file that it includes, or uses a name of a file that
            it does not include, or does not define a name that it lists.
    """
    shebang, source = combined(name)
    values: dict[str, float | str] = {**_COMMON, **keys.lua_constants(), **constants}
    literals = {constant: _literal(value) for constant, value in values.items()}
    return f"{shebang}\n{_CONSTANT.sub(lambda found: literals.get(found[0], found[0]), source)}"


@cache  # a process needs each script several times, and reading and combining it takes milliseconds
def combined(name: str) -> tuple[str, str]:
    """Returns the shebang line of a script, and its source with the parts, before constants.

    Raises ValueError as `assemble` does.
    """
    shebang, body = _read(f"{name}.lua").split("\n", 1)  # Redis needs the shebang in the first line
    parts = _included(body, {})
    names = {part: _defined_names(text) for part, text in parts.items()}
    sources = {part: _with_fields(part, text, names) for part, text in parts.items()}
    branches = [_branch(part, sources[part], names[part]) for part in parts if names[part]]
    source = _LAZY.format("\nelse".join(branches)) if branches else ""
    source += "".join(sources[part] for part in parts if not names[part])
    return shebang, source + _with_fields(name, body, names)


_LAZY = """local parts = setmetatable({{}}, {{ __index = function(parts, name)
{}
end
return parts[name]
end }})
"""


def _branch(part: str, source: str, names: Sequence[str]) -> str:
    """Returns the branch of `_LAZY` that defines the names of a part."""
    is_asked = " or ".join(f"name == '{name}'" for name in names)
    fields = ", ".join(f"parts.{name}" for name in names)
    return f"if {is_asked} then -- {part}.lua\n{source}\n{fields} = {', '.join(names)}"


def _literal(value: float | str) -> str:
    return lua_string(value) if isinstance(value, str) else repr(value)


def _included(source: str, parts: dict[str, str]) -> dict[str, str]:
    """Adds the parts that a source includes, and the parts that these include, to `parts`."""
    for part in _INCLUDE.findall(source):
        if part not in parts:
            parts[part] = _read(f"lib/{part}.lua")
            _included(parts[part], parts)
    return parts


def _defined_names(part: str) -> list[str]:
    found = _DEFINES.search(part)
    return re.findall(r"\w+", found[1]) if found else []


def _with_fields(file: str, source: str, names: Mapping[str, Sequence[str]]) -> str:
    """Returns a file's source, in which the names of other files are fields of `parts`."""
    included = _INCLUDE.findall(source)
    visible = {name for part in included for name in names[part]}
    invisible = {name for part in names for name in names[part]} - visible
    declared = {
        name
        for lists in _DECLARED.findall(source)
        for text in lists
        for name in re.findall(r"\w+", text)
    }
    if missing := set(names.get(file, ())) - declared:
        raise ValueError(f"{file}.lua does not define {sorted(missing)}")
    if clashes := declared & visible:
        raise ValueError(f"{file}.lua declares {sorted(clashes)}, names of a file that it includes")

    def field(token: re.Match[str]) -> str:
        if token[0] in visible:
            return f"parts.{token[0]}"
        if token[0] in invisible - declared:
            raise ValueError(f"{file}.lua uses {token[0]} and does not include its file")
        return token[0]

    return _TOKEN.sub(field, _INCLUDE.sub("", source))


def _read(name: str) -> str:
    return files("shared.queue").joinpath("lua", name).read_text(encoding="utf-8")
