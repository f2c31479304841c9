"""Tests how a script is linked with its parts: see shared/queue/lua_linker.py."""

import re
import runpy
import sys
from importlib.resources import files

import pytest
from redis.asyncio import Redis

from shared.queue.lua_linker import link
from shared.queue.redis_keys import Keys
from shared.queue.scripts import assemble

SCRIPTS = files("shared.queue").joinpath("lua")
INCLUDE = '#!lua\n--- @include "p"\n'


def linked(script: str, **parts: str) -> str:
    """Returns the linked source of a script without its shebang line."""
    sources = {"s.lua": script} | {f"lib/{name}.lua": text for name, text in parts.items()}
    return link("s", sources.__getitem__).removeprefix("#!lua\n")


def part(*names: str, text: str) -> str:
    return f"-- Defines for other files: {', '.join(names)}\n{text}\n"


def test_a_name_of_a_part_is_a_field_only_where_it_is_a_name() -> None:
    body = "return gate() .. item.gate .. 'gate' .. f({ gate = 1, [gate] = 2 }) -- gate\n"

    source = linked(INCLUDE + body, p=part("gate", text="local function gate() return 1 end"))

    assert source.splitlines()[-1] == (
        "return parts.gate() .. item.gate .. 'gate' .. f({ gate = 1, [parts.gate] = 2 }) -- gate"
    )


async def test_a_run_creates_only_what_it_uses(redis: Redis) -> None:
    values = "local used, unused, also = {}, error('created'), { 3 }"
    functions = "local function first() used[1] = also[1] return second() end\n"
    functions += "local function second() return used[1] + 1 end"
    p = part("first", "unused", text=f"{values}\n{functions}")
    script = f"{INCLUDE}local n = tonumber(ARGV[1])\nif n == 0 then return unused end\n"

    source = linked(f"{script}return {{ first(), n }}\n", p=p)

    assert await redis.eval(source, 0, "1") == [4, 1]  # type: ignore[misc]


async def test_names_of_each_round_are_local_variables(redis: Redis) -> None:
    values = "local step, count = 2, 0\nlocal function add() count = count + step return count end"
    p = part("add", text=f"-- Used in each round: add, count\n{values}")

    source = linked(f"{INCLUDE}add()\nreturn add()\n", p=p)

    assert source.startswith("local add, p__count\n")
    assert "parts.p__step" in source
    assert await redis.eval(source, 0) == 4  # type: ignore[misc]


def test_what_no_statement_uses_is_left_out() -> None:
    text = "local function one() return two() end\nlocal function two() return 1 end\n"
    text += "local function three() return 1 end"

    source = linked(f"{INCLUDE}return one()\n", p=part("one", "three", text=text))

    assert "p__two" in source
    assert "three" not in source


@pytest.mark.parametrize(
    ("text", "body", "message"),
    [
        ("local gate = 1", "local gate = gate", "s.lua declares ['gate'] again"),
        ("local gate = 1", "for gate in pairs({}) do end", "s.lua declares ['gate'] again"),
        ("local gate = 1", "local function f(gate) end", "s.lua declares ['gate'] again"),
        ("local gate = 1\nlocal function f(gate) end", "return 1", "p.lua declares ['gate'] again"),
        ("local other = 1", "return 1", "p.lua does not define ['gate']"),
        ("local gate = also", "return gate", "p.lua uses also and does not include its file"),
        ("local gate", "return gate", "p.lua declares ['gate']: each needs a value"),
        ("local gate, b = 1, nil", "return gate", "p.lua declares ['gate', 'b']: each needs a"),
        ("local gate, b = f(1, 2)", "return gate", "p.lua declares ['gate', 'b']: each needs a"),
        ("local gate = 1\nprint(gate)", "return 1", "a statement that declares nothing: print"),
        (
            "-- Used in each round: also\nlocal gate = 1",
            "return 1",
            "p.lua does not define ['also']",
        ),
    ],
)
def test_a_mistake_is_found(text: str, body: str, message: str) -> None:
    script = f'{INCLUDE}--- @include "q"\n{body}\n'

    with pytest.raises(ValueError, match=re.escape(message)):
        linked(script, p=part("gate", text=text), q=part("also", text="local also = {}"))


def test_the_command_prints_the_lines_that_errors_of_redis_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["shared.queue", "renew"])

    runpy.run_module("shared.queue", run_name="__main__")

    assert capsys.readouterr().out == f"{assemble(Keys(), 'renew')}\n"


def test_each_file_uses_what_it_includes() -> None:
    sources = {
        file.name.removesuffix(".lua"): file.read_text(encoding="utf-8")
        for directory in (SCRIPTS, SCRIPTS.joinpath("lib"))
        for file in directory.iterdir()
        if file.is_file()
    }
    defines = re.compile(r"^-- Defines for other files: ((?:.*,\n-- )*.*)$", re.MULTILINE)
    defined = {
        name: re.findall(r"\w+", found[1])
        for name, source in sources.items()
        if (found := defines.search(source))
    }

    unused = {
        (name, part)
        for name, source in sources.items()
        for part in re.findall(r'^--- @include "(\w+)"', source, re.MULTILINE)
        if part in defined
        and not re.search(rf"\b({'|'.join(defined[part])})\b", re.sub(r"--.*", "", source))
    }

    assert unused == set()


def test_every_function_of_the_parts_is_used() -> None:
    scripts = [file.name.removesuffix(".lua") for file in SCRIPTS.iterdir() if file.is_file()]
    linked_scripts = "".join(assemble(Keys(), script) for script in scripts)
    functions = {
        (file.name.removesuffix(".lua"), name)
        for file in SCRIPTS.joinpath("lib").iterdir()
        for name in re.findall(r"^local function (\w+)", file.read_text(), re.MULTILINE)
    }

    unused = {
        (file, name)
        for file, name in functions
        if not re.search(
            rf"name == '({file}__)?{name}'|^({file}__)?{name} = ", linked_scripts, re.MULTILINE
        )
    }

    assert unused == set()


def test_no_line_of_a_script_has_more_than_120_columns() -> None:
    sources = [*SCRIPTS.iterdir(), *SCRIPTS.joinpath("lib").iterdir()]
    long = [
        f"{source.name}:{number}"
        for source in sources
        if source.is_file()
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 120
    ]

    assert long == []
