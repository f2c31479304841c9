"""Loads the Lua scripts: each is atomic, and nothing else moves an item."""

import re
from importlib.resources import files

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from shared.queue.keys import LAYOUT_VERSION, Keys

_INCLUDE = re.compile(r'^--- @include "([a-z_]+)"\n', re.MULTILINE)


def load_script(redis: Redis, keys: Keys, name: str) -> AsyncScript:
    """Returns `lua/{name}.lua` with the key names and the parts that it includes before it."""
    return redis.register_script(assemble(keys, name))


def assemble(keys: Keys, name: str) -> str:
    """Returns the source of a script: shebang line, key names, included parts, its own body.

    A line `--- @include "part"` brings `lua/lib/part.lua` and, before it, what that includes; each
    part comes once.
    """
    shebang, body = _read(f"{name}.lua").split("\n", 1)  # must stay the first line
    parts: dict[str, str] = {}
    body = _without_includes(body, parts)
    source = "".join(parts.values()) + body
    return f"{shebang}\nlocal LAYOUT = {LAYOUT_VERSION}\n{keys.lua_constants(source)}{source}"


def _without_includes(source: str, parts: dict[str, str]) -> str:
    for part in _INCLUDE.findall(source):
        if part not in parts:
            text = _without_includes(_read(f"lib/{part}.lua"), parts)
            parts[part] = text
    return _INCLUDE.sub("", source)


def _read(name: str) -> str:
    return files("shared.queue").joinpath("lua", name).read_text(encoding="utf-8")
