"""Tests how a script is assembled from its parts: see shared/queue/scripts.py."""

import re

import pytest

from shared.queue import scripts
from shared.queue.keys import Keys


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Replaces the files of the scripts."""
    sources: dict[str, str] = {}
    monkeypatch.setattr(scripts, "_read", sources.__getitem__)
    monkeypatch.setattr(scripts, "combined", scripts.combined.__wrapped__)  # no cache
    return sources


def test_a_name_of_a_part_is_a_field_only_where_it_is_a_name(files: dict[str, str]) -> None:
    files["lib/p.lua"] = "-- Defines for other files: gate\nlocal function gate() return 1 end\n"
    files["s.lua"] = "#!lua\n--- @include \"p\"\nreturn gate() .. item.gate .. 'gate' -- gate\n"

    source = scripts.assemble(Keys(), "s")

    assert source.splitlines()[-1] == "return parts.gate() .. item.gate .. 'gate' -- gate"


def test_an_included_part_includes_its_own_parts(files: dict[str, str]) -> None:
    files["lib/a.lua"] = "-- Defines for other files: one\nlocal one = 1\n"
    files["lib/b.lua"] = (
        '--- @include "a"\n-- Defines for other files: two\nlocal two = one + one\n'
    )
    files["s.lua"] = '#!lua\n--- @include "b"\nreturn two\n'

    source = scripts.assemble(Keys(), "s")

    assert "local two = parts.one + parts.one" in source


@pytest.mark.parametrize(
    ("part", "body", "message"),
    [
        ("local gate = 1", "local gate = gate", "s.lua declares ['gate'], names of a file that"),
        ("local gate = 1", "for gate in pairs({}) do end", "s.lua declares ['gate']"),
        ("local gate = 1", "local function f(gate) end", "s.lua declares ['gate']"),
        ("local other = 1", "return 1", "p.lua does not define ['gate']"),
        ("local gate = also", "return gate", "p.lua uses also and does not include its file"),
    ],
)
def test_a_mistake_in_a_name_is_found(
    files: dict[str, str], part: str, body: str, message: str
) -> None:
    files["lib/q.lua"] = "-- Defines for other files: also\nlocal also = 1\n"
    files["lib/p.lua"] = f"-- Defines for other files: gate\n{part}\n"
    files["s.lua"] = f'#!lua\n--- @include "p"\n--- @include "q"\n{body}\n'

    with pytest.raises(ValueError, match=re.escape(message)):
        scripts.assemble(Keys(), "s")
