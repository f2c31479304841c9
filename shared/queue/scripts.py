"""Loads the Lua scripts. Each script is atomic, and no other code moves an item."""

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

from redis.asyncio import Redis

from shared.providers import WEBHOOK_LANE
from shared.providers.row import MAX_KEYS
from shared.queue.ids import DELIVERY_SUFFIX
from shared.queue.keys import Keys, lua_string
from shared.redis.client import Script

Constants = Mapping[str, float | str]

ADAPTIVE_START = 10  # number of running calls at which an adaptive limit starts
NONE: Constants = MappingProxyType({})
_COMMON: Constants = {
    "WEBHOOK_LANE": WEBHOOK_LANE,
    "DELIVERY_SUFFIX": DELIVERY_SUFFIX,
    "MAX_KEYS": MAX_KEYS,
    "ADAPTIVE_START": ADAPTIVE_START,
}
_NAME = re.compile(r"\b[A-Z][A-Z_]+\b")
_DEFINES = re.compile(r"^-- Defines for other files: ((?:.*,\n-- )*.*)$", re.MULTILINE)
_INCLUDE = re.compile(r'^--- @include "([a-z_]+)"\n', re.MULTILINE)


def load_script(redis: Redis, keys: Keys, name: str, constants: Constants = NONE) -> Script:
    """Returns `lua/{name}.lua` as a callable. `assemble` describes the constants and parts."""
    return Script(redis, assemble(keys, name, constants))


def assemble(keys: Keys, name: str, constants: Constants = NONE) -> str:
    """Returns the complete source of a script: shebang line, included parts, body.

    A constant's name is replaced by its value. Key names are constants, too: see `Keys`.
    The line `--- @include "part"` includes `lua/lib/part.lua`, after the parts that this file
    itself includes. No part is included twice. Each part is a block, and only the names after
    "Defines for other files:" are visible outside, because a Lua function has at most 200 local
    variables.
    """
    shebang, body = _read(f"{name}.lua").split("\n", 1)  # Redis needs the shebang in the first line
    parts: dict[str, str] = {}
    body = _without_includes(body, parts)
    source = "".join(parts.values()) + body
    values: dict[str, float | str] = {**_COMMON, **keys.lua_constants(), **constants}
    literals = {constant: _literal(value) for constant, value in values.items()}
    return f"{shebang}\n{_NAME.sub(lambda name: literals.get(name[0], name[0]), source)}"


def _literal(value: float | str) -> str:
    return lua_string(value) if isinstance(value, str) else repr(value)


def _without_includes(source: str, parts: dict[str, str]) -> str:
    for part in _INCLUDE.findall(source):
        if part not in parts:
            text = _without_includes(_read(f"lib/{part}.lua"), parts)
            parts[part] = _as_block(text)
    return _INCLUDE.sub("", source)


def _as_block(part: str) -> str:
    defined = _DEFINES.search(part)
    if defined is None:
        return part
    names = re.findall(r"\w+", defined[1])
    any_name = "|".join(names)
    for local in (rf"local (function (?:{any_name})\b)", rf"local ((?:(?:{any_name})(?:, )?)+ = )"):
        part = re.sub(rf"^{local}", r"\1", part, flags=re.MULTILINE)
    return f"local {', '.join(names)}\ndo\n{part}\nend\n"


def _read(name: str) -> str:
    return files("shared.queue").joinpath("lua", name).read_text(encoding="utf-8")
