"""Tests that texts from models, providers and other owners cannot control a terminal."""

import asyncio
import json
import os
import sys
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.command import Orchestrator
from support.jobs import lines, upload, wait_completed
from support.stack import Stack, Start, eventually
from support.terminal import Terminal

from shared.terminal_text import visible, visible_json

# Sets the title, opens a link, selects a colour (twice), and changes the order of characters.
ATTACK = "\x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\\x1b[31m\x9b31m\x7f\u202e\u2066\u200f"
MODEL = f"sim-status-400 {ATTACK}"
# The console's own sequences are none of these.
HARMFUL = ["\x1b]", "\x07", "\x1b\\", "\x9b", "\x7f", "\u202e", "\u2066", "\u200f"]
COMMANDS = [
    "status ID",
    "status ID --json",
    "watch ID",
    "jobs",
    "jobs --json",
    "top --once",
    "top --once --wide",
    "top --json",
    "results ID",
    "results ID -o /dev/stdout",
    "retry ID",
    "cancel ID",
]


@pytest.fixture
async def deployment(stack: Start) -> Stack:
    return await stack(workers=1)


@pytest.fixture
async def orchestrator(deployment: Stack, tmp_path: Path) -> AsyncIterator[Orchestrator]:
    orchestrator = Orchestrator(deployment, tmp_path)
    yield orchestrator
    await orchestrator.stop()


async def shown(orchestrator: Orchestrator, *argv: str) -> str:
    """Returns all that a command writes to a terminal."""
    terminal = Terminal()
    try:
        process = await orchestrator.start(*argv, terminal=terminal.slave)
        async with asyncio.timeout(60):
            await process.wait()
        os.write(terminal.slave, b"end of the output")
        await terminal.shows("end of the output")
        return terminal.written()
    finally:
        terminal.close()


def harm(written: str) -> list[str]:
    return [sequence for sequence in HARMFUL if sequence in written]


async def test_no_command_sends_a_stranger_s_control_characters_to_a_terminal(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    body = b"".join(
        lines(["x"], model=MODEL, request_id=f"{ATTACK}{n}", metadata={"note": ATTACK})
        for n in range(5)
    )
    location = await upload(deployment.api, body)
    await wait_completed(deployment.api, location)
    job_id = location.removeprefix("/jobs/")

    async def is_named() -> bool:
        return "5 of 5 calls to sim-status-400" in (await orchestrator("top", "--once"))[1]

    await eventually(is_named)
    written = {
        command: await shown(orchestrator, *command.replace("ID", job_id).split())
        for command in COMMANDS
    }
    (orchestrator.directory / "in").write_bytes(body)
    written["submit"] = await shown(orchestrator, "submit", "in", "-o", "/dev/stdout")
    written["two files"] = await shown(orchestrator, "submit", "in", ATTACK)
    written["option"] = await shown(orchestrator, "jobs", f"--{ATTACK}")
    written["file"] = await shown(orchestrator, "submit", ATTACK)
    written["command"] = await shown(orchestrator, ATTACK)

    assert {command: harm(text) for command, text in written.items() if harm(text)} == {}
    showing = [command for command, text in written.items() if "1b[31m" in text]  # \x1b or \u001b
    mistakes = ["two files", "option", "file", "command"]
    assert all("x1b]0;title" in written[mistake] for mistake in mistakes)
    saved = ["results ID", "results ID -o /dev/stdout", "submit"]
    assert {"status ID", "top --once", "top --once --wide", "top --json", *saved} <= {*showing}
    assert json.loads(written["results ID"].splitlines()[0])["request_id"] == f"{ATTACK}0"


async def test_pipes_and_files_get_every_character(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    location = await upload(deployment.api, lines(["x"], model=MODEL, request_id=ATTACK))
    await wait_completed(deployment.api, location)
    job_id = location.removeprefix("/jobs/")
    answer = await deployment.api.get(f"{location}/results")

    _, piped, _ = await orchestrator("results", job_id)
    await orchestrator("results", job_id, "-o", "out")
    _, status, _ = await orchestrator("status", job_id)

    assert piped == answer.text
    assert (orchestrator.directory / "out").read_text() == answer.text
    assert ATTACK.replace("\x07", "") in status  # rich removes the bell


LOG = """
import sys
import unicodedata
import structlog
from shared.logs import configure_logging
configure_logging("INFO")
structlog.get_logger().info("job_accepted", model=sys.argv[1], names=[sys.argv[1]])
try:
    raise ValueError(sys.argv[1])
except ValueError:
    structlog.get_logger().exception(sys.argv[1])
"""


async def test_a_log_on_a_terminal_shows_control_characters() -> None:
    terminal = Terminal()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LOG, ATTACK), stderr=terminal.slave
    )
    await process.wait()
    os.write(terminal.slave, b"end of the output")
    await terminal.shows("end of the output")
    written = terminal.written()
    terminal.close()

    assert harm(written) == []
    assert written.count(visible(ATTACK)) >= 3


def test_all_control_characters_and_bidirectional_marks_are_visible() -> None:
    every = "".join(map(chr, range(0x3000)))
    bidirectional = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

    hidden = {character for character in every if visible(character) != character}

    assert hidden == {c for c in every if unicodedata.category(c) == "Cc"} - {*"\t\n"} | {
        *bidirectional
    }
    line = json.dumps(every, ensure_ascii=False)
    assert json.loads(visible_json(line.encode())) == every
    assert visible(visible_json(line.encode()).decode()) == visible_json(line.encode()).decode()
