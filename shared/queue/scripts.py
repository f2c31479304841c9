"""The Lua scripts: all that moves an item, each atomic."""

from importlib.resources import files

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from shared.queue.keys import Keys


def script(redis: Redis, keys: Keys, name: str) -> AsyncScript:
    """The shebang line must stay the first."""
    lua = files("shared.queue").joinpath("lua")
    flags, body = lua.joinpath(f"{name}.lua").read_text().split("\n", 1)
    prelude = lua.joinpath("prelude.lua").read_text()
    return redis.register_script(f"{flags}\n{keys.lua_constants()}{prelude}{body}")
