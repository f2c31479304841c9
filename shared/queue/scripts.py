"""Loads the Lua scripts. Each script is atomic, and no other code moves an item."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from redis.asyncio import Redis

from shared.providers import WEBHOOK_LANE
from shared.providers.provider_row import MAX_KEYS
from shared.queue.ids import DELIVERY_SUFFIX
from shared.queue.lua_linker import link
from shared.queue.redis_keys import META_ITEMS, Keys, lua_string
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
}
_CONSTANT = re.compile(r"\b[A-Z][A-Z_]+\b")


def load_script(redis: Redis, keys: Keys, name: str, constants: Constants = NONE) -> Script:
    """Returns `lua/{name}.lua` as a callable. `assemble` describes the constants."""
    return Script(redis, assemble(keys, name, constants))


def assemble(keys: Keys, name: str, constants: Constants = NONE) -> str:
    """Returns the complete source of a script: see lua_linker.py.

    A constant's name is replaced by its value. Key names are constants, too: see `Keys`.
    """
    values: dict[str, float | str] = {**_COMMON, **keys.lua_constants(), **constants}
    literals = {constant: _literal(value) for constant, value in values.items()}
    return _CONSTANT.sub(lambda found: literals.get(found[0], found[0]), linked(name))


@cache  # a process needs each script several times, and linking it takes milliseconds
def linked(name: str) -> str:
    return link(name, _read)


def _literal(value: float | str) -> str:
    return lua_string(value) if isinstance(value, str) else repr(value)


def _read(name: str) -> str:
    return files("shared.queue").joinpath("lua", name).read_text(encoding="utf-8")
