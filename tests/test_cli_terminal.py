"""Tests what the commands show on a terminal of 80 by 24 characters, and their help."""

import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from support.command import ORCHESTRATOR, Orchestrator
from support.jobs import job_ids, lines
from support.stack import Stack, chat, eventually
from support.terminal import Terminal

from cli.main import app


@pytest.fixture
async def small_terminal() -> AsyncIterator[Terminal]:
    terminal = Terminal(rows=24, columns=80)
    yield terminal
    terminal.close()


# A small terminal, and jobs that have ended


async def test_lists_fit_80_by_24_and_every_command_takes_their_short_ids(
    deployment: Stack, orchestrator: Orchestrator, small_terminal: Terminal
) -> None:
    await deployment.simulate(latency_ms=60_000)
    for number in range(12):
        (orchestrator.directory / "in").write_bytes(lines([str(number)]))
        await orchestrator("submit", "in", "--no-wait")
    [newest, *_] = all_ids = await job_ids(deployment)
    short = newest[:8]

    await orchestrator("cancel", short)
    listing = await orchestrator.start("jobs", terminal=small_terminal.slave)
    assert await listing.wait() == 0
    await small_terminal.shows(short)
    shown = small_terminal.text()
    process = await orchestrator.start("top", terminal=small_terminal.slave)
    await small_terminal.shows("workers: 2 alive")
    screen = await small_terminal.screen()
    process.send_signal(signal.SIGINT)
    await process.wait()

    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(rf"{short} +cancelled +0 of 1 +0 +1 +\d+ s", shown)
    assert all(job_id[:8] in shown and job_id not in shown for job_id in all_ids)
    assert len(screen) <= 24
    assert max(map(len, screen)) <= 80
    assert re.search(rf"{short} +cancelled +100% of 1 +0 +0 +\d+ s", "\n".join(screen))
    assert sum(job_id[:8] in "\n".join(screen) for job_id in all_ids) >= 8
    for command in ("status", "watch", "results", "cancel", "retry"):
        argv = (command, short, "--no-wait") if command == "retry" else (command, short)
        assert "no such job" not in (await orchestrator(*argv))[2]
    for batch_id in (f"batch_{short}", f"batch_{newest}"):  # the ids of OpenAI's API
        assert newest in (await orchestrator("status", batch_id, "--json"))[1]
    _, wide, _ = await orchestrator("jobs", "--wide")
    assert all(job_id in wide for job_id in all_ids)


async def test_top_shows_whole_notices_on_a_small_terminal(
    deployment: Stack, orchestrator: Orchestrator, small_terminal: Terminal
) -> None:
    await deployment.simulate(retry_after="120")
    await deployment.batch([chat("x", model="sim-429x1")], params={"mode": "async"})

    async def paused() -> bool:
        return "is paused" in (await orchestrator("top"))[1]

    await eventually(paused)
    process = await orchestrator.start("top", terminal=small_terminal.slave)
    screen = await small_terminal.screen()
    process.send_signal(signal.SIGINT)
    await process.wait()

    shown = " ".join("\n".join(screen).split())
    assert "because the provider answered 429 (too many requests) and asked to wait 120 s." in shown
    assert "1 request for openrouter is waiting, counted over all jobs." in shown
    assert max(map(len, screen)) <= 80


async def test_an_outage_of_a_provider_is_shown_on_a_small_terminal(
    deployment: Stack, orchestrator: Orchestrator, small_terminal: Terminal
) -> None:
    await deployment.simulate(outage={"status": 401})
    (orchestrator.directory / "in").write_bytes(
        lines(["a"]) + lines(["b"], provider="ollama", model="m")
    )

    submitting = await orchestrator.start("submit", "in", terminal=small_terminal.slave)
    await small_terminal.shows("not working, ")
    submitting.send_signal(signal.SIGINT)
    await submitting.wait()
    told = " ".join(small_terminal.text().split())
    top = Terminal(rows=24, columns=80)
    process = await orchestrator.start("top", terminal=top.slave)
    screen = await top.screen()
    process.send_signal(signal.SIGINT)
    await process.wait()
    top.close()

    assert told.count("error: openrouter has not worked for") == 1
    assert "Check OPENROUTER_API_KEY, and restart the workers." in told
    assert max(map(len, re.split(r"[\r\n]+", small_terminal.text()))) <= 80
    shown = "\n".join(screen)
    assert "error: openrouter has not worked for" in shown
    assert re.search(r"^openrouter not working +[01] of 10 ", shown, re.MULTILINE)
    assert re.search(r"^[0-9a-f]{8} +running +0% of 2 ", shown, re.MULTILINE)
    assert len(screen) <= 24
    assert max(map(len, screen)) <= 80


async def test_characters_that_begin_several_ids_are_refused(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    for number in range(17):  # two of 17 ids begin with the same of 16 digits
        await deployment.batch([chat(str(number))], params={"mode": "async"})
    first = [job_id[0] for job_id in await job_ids(deployment)]
    digit = next(digit for digit in first if first.count(digit) > 1)

    code, _, errors = await orchestrator("status", digit)

    assert code == 1
    assert f"the ids of {first.count(digit)} jobs begin with {digit}; add" in errors


async def test_watch_shows_nothing_but_the_end_of_a_job_that_has_ended(
    deployment: Stack, orchestrator: Orchestrator, small_terminal: Terminal
) -> None:
    (orchestrator.directory / "in").write_bytes(lines(str(n) for n in range(300)))
    _, output, _ = await orchestrator("submit", "in", "--json")
    await deployment.simulate(latency_ms=60_000)
    await deployment.batch([chat("other")], params={"mode": "async"})
    await deployment.in_flight(1)

    process = await orchestrator.start(
        "watch", json.loads(output)["job_id"], terminal=small_terminal.slave
    )

    assert await process.wait() == 0
    await small_terminal.shows("300 of 300 answered, 0 failed")
    assert "/s" not in small_terminal.text()
    assert "running" not in small_terminal.text()


async def test_watch_shows_the_figures_of_its_own_job(
    deployment: Stack, orchestrator: Orchestrator, small_terminal: Terminal
) -> None:
    await deployment.simulate(latency_ms=60_000)
    await deployment.batch([chat(str(n)) for n in range(5)], params={"mode": "async"})
    await deployment.in_flight(5)
    (orchestrator.directory / "in").write_bytes(lines(["a", "b", "c"]))
    _, output, _ = await orchestrator("submit", "in", "--no-wait", "--json")
    await deployment.in_flight(8)
    process = await orchestrator.start(
        "watch", json.loads(output)["job_id"], terminal=small_terminal.slave
    )

    await small_terminal.shows("3 running")

    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130
    assert "8 " not in small_terminal.text()
    assert max(map(len, re.split(r"[\r\n]+", small_terminal.text()))) <= 80


async def test_cancelled_requests_are_counted_apart(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    body = lines(["a"], model="sim-404") + lines(["b", "c"], model="sim-latency-60000")
    (orchestrator.directory / "in").write_bytes(body)
    _, output, _ = await orchestrator("submit", "in", "--no-wait", "--json")
    job_id = json.loads(output)["job_id"]

    async def failed() -> bool:
        job = (await deployment.api.get(f"/jobs/{job_id}")).json()
        return bool(job["failed"] == 1)

    await eventually(failed)
    _, said, _ = await orchestrator("cancel", job_id)
    _, status, _ = await orchestrator("status", job_id)
    job = (await deployment.api.get(f"/jobs/{job_id}")).json()

    assert ": 0 of 3 answered, 1 failed, 2 cancelled\n" in said
    assert f"Retry the failed and cancelled requests: orchestrator retry {job_id}" in said
    assert "1 failed: openrouter/sim-404, model_not_found" in status
    assert "cancelled (for example" not in status
    assert (job["failed"], job["cancelled"], job["successful"]) == (3, 2, 0)


# The help


def test_every_command_has_an_example_and_its_exit_codes(tmp_path: Path) -> None:
    """Also checks that no option shows its type in the language of the source code."""
    for name in _commands(typer.main.get_command(app), ()):
        shown = subprocess.run(
            [ORCHESTRATOR, *name, "--help"],
            env=os.environ | {"COLUMNS": "80"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

        assert re.search(r"^ Examples\n   \$ .*orchestrator", shown, re.MULTILINE), name
        assert re.search(r"^ Exit codes\n   0 ", shown, re.MULTILINE), name
        assert not re.search(r"<(bool|int|str|float)", shown), name
        assert max(map(len, shown.splitlines())) <= 80, name


def _commands(command: Any, name: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yields the name of each command that has no subcommands. The type is Any because typer hides
    the types of its own click."""
    for child, nested in getattr(command, "commands", {}).items():
        if hasattr(nested, "commands"):
            yield from _commands(nested, (*name, child))
        else:
            yield (*name, child)
