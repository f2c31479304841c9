"""Replaces the clock that the scripts read, because the clock of the server cannot be set."""

import re
from functools import cache

import pytest

from shared.queue import scripts
from shared.queue.lua_linker import link
from shared.queue.redis_keys import lua_string

_DECLARATION = re.compile(r"^local now_ms = .*$", re.MULTILINE)


def declare_now_ms(monkeypatch: pytest.MonkeyPatch, declaration: str, clock_key: str) -> None:
    """Replaces the Lua declaration of `now_ms` in the scripts that are loaded from now on.

    In `declaration`, CLOCK_KEY stands for `clock_key`, the Redis key of the test's clock.
    """
    key = lua_string(clock_key)
    monkeypatch.setattr(
        scripts, "linked", lambda name: _linked(name, declaration).replace("CLOCK_KEY", key)
    )


@cache  # linking the scripts takes 60 ms, and each test has keys of its own
def _linked(name: str, declaration: str) -> str:
    def read_with_clock(name: str) -> str:
        source = scripts._read(name)  # noqa: SLF001 — the scripts are read nowhere else
        if name == "lib/clock.lua":
            [line] = _DECLARATION.findall(source)
            source = source.replace(line, declaration)
        return source

    return link(name, read_with_clock)
