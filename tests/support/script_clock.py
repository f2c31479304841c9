"""Replaces the clock that the scripts read, because the clock of the server cannot be set."""

import re

import pytest

from shared.queue import scripts
from shared.queue.lua_linker import link

_DECLARATION = re.compile(r"^local now_ms = .*$", re.MULTILINE)


def declare_now_ms(monkeypatch: pytest.MonkeyPatch, declaration: str) -> None:
    """Lets the scripts that are loaded from now on declare `now_ms` in this way, in Lua."""
    read = scripts._read  # noqa: SLF001 — the scripts are read nowhere else

    def read_with_clock(name: str) -> str:
        source = read(name)
        if name == "lib/clock.lua":
            [line] = _DECLARATION.findall(source)
            source = source.replace(line, declaration)
        return source

    monkeypatch.setattr(scripts, "linked", lambda name: link(name, read_with_clock))
