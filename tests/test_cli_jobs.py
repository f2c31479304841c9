"""Tests the commands that call a running API, as a user types them."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis
from support.command import ORCHESTRATOR, Orchestrator, execute
from support.jobs import job, lines, parsed
from support.stack import Stack, chat, eventually
from support.terminal import Terminal

from orchestrator_client import AsyncClient
from shared.queue.redis_keys import Keys


async def test_ndjson_is_submitted_and_its_results_are_written_in_order(
    orchestrator: Orchestrator,
) -> None:
    contents = [f"line {n}" for n in range(250)]
    (orchestrator.directory / "in.ndjson").write_bytes(lines(contents))

    code, output, errors = await orchestrator("submit", "in.ndjson", "-o", "out.ndjson")

    assert (code, output) == (0, ""), errors
    items = parsed((orchestrator.directory / "out.ndjson").read_text())
    assert [item["content"] for item in items] == [f"echo: {text}" for text in contents]
    assert "250 of 250 answered" in errors
    assert not (orchestrator.directory / "out.ndjson.part").exists()


@pytest.mark.parametrize("kind", ["batch", "ndjson", "prompts", "stdin"])
async def test_every_kind_of_input(orchestrator: Orchestrator, kind: str) -> None:
    for encoding in ("utf-8", "utf-8-sig"):
        prompts, argv, stdin = [f"first {encoding}", "second"], ["in"], b""
        match kind:
            case "batch":
                text = json.dumps({"requests": [chat(prompt) for prompt in prompts]}, indent=2)
            case "ndjson":
                text = lines(prompts).decode()
            case _:
                text = "\n\n".join(prompts) + "\n"
                argv += ["--provider", "ollama", "--model", "m", "--system", "be brief"]
        if kind == "stdin":
            argv[0], stdin = "-", text.encode(encoding)
        else:
            (orchestrator.directory / "in").write_text(text, encoding)

        code, output, errors = await orchestrator("submit", *argv, "-o", "-", stdin=stdin)

        assert code == 0, errors
        items = parsed(output)
        assert [item["content"] for item in items] == [f"echo: {prompt}" for prompt in prompts]
        assert {item["provider"] for item in items} == {
            "ollama" if kind in {"prompts", "stdin"} else "openrouter"
        }


async def test_interrupted_and_run_again_it_continues_the_same_job(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    await deployment.simulate(latency_ms=100)
    (orchestrator.directory / "in").write_bytes(lines(str(n) for n in range(60)))
    argv = ("submit", "in", "-o", "out")
    first = await orchestrator.start(*argv)
    assert first.stderr
    assert (await first.stderr.readline()).startswith(b"job ")  # the command has the reply
    await deployment.in_flight(10)

    first.send_signal(signal.SIGINT)
    _, errors = await first.communicate()
    again = await orchestrator(*argv)

    assert first.returncode == 130
    assert "the job continues" in errors.decode()
    assert again[0] == 0
    assert len(parsed((orchestrator.directory / "out").read_text())) == 60
    assert (await deployment.stats())["total"] == 60
    assert len((await deployment.api.get("/jobs")).json()["jobs"]) == 1


async def test_a_job_with_failures_says_so_and_is_retried(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    body = lines(["a", "b"]) + lines(["c"], model="sim-404")
    (orchestrator.directory / "in").write_bytes(body)

    code, output, _ = await orchestrator("submit", "in", "--json")
    [summary] = parsed(output)
    job_id = summary["job_id"]
    retried, output, _ = await orchestrator("retry", job_id, "--json", "-o", "out")
    [after] = parsed(output)
    failed = await orchestrator("results", job_id, "--status", "failed")
    said = (await orchestrator("status", job_id))[1]
    _, _, again = await orchestrator("submit", "in")

    assert (code, retried, failed[0]) == (3, 3, 0)
    cause = "1 failed: openrouter/sim-404, model_not_found (for example: openrouter ans"
    for line in (
        f"job {job_id}\nThe job has ended at ",
        "UTC. These are its stored results; --new runs all requests again.\n",
        f"Retry the failed requests: orchestrator retry {job_id}\n{cause}",
        f"Results: orchestrator results {job_id}\n",
    ):
        assert line in again
    assert "1 failed: openrouter/sim-404, model_not_found (for example: openrouter ans" in said
    assert (summary["successful"], summary["failed"]) == (2, 1)
    assert (after["retry_of"], after["total_requests"]) == (job_id, 1)
    assert [item["index"] for item in parsed(failed[1])] == [2]
    assert (await job(deployment.api, f"/jobs/{job_id}"))["retried_as"] == after["job_id"]


async def test_jobs_status_watch_and_cancel(deployment: Stack, orchestrator: Orchestrator) -> None:
    await deployment.simulate(latency_ms=60_000)
    (orchestrator.directory / "in").write_bytes(lines(["a", "b"]))
    code, output, errors = await orchestrator("submit", "in", "--no-wait", "--json")
    job_id = json.loads(output)["job_id"]
    await deployment.in_flight(2)
    watching = await orchestrator.start("watch", job_id)

    shown = await orchestrator("status", job_id)
    listed = await orchestrator("jobs")
    as_json = await orchestrator("jobs", "--json", "--status", "running")
    cancelled = await orchestrator("cancel", job_id)
    _, watched = await watching.communicate()

    assert code == 0, errors
    assert "running: 0 of 2 answered" in shown[1]
    assert job_id in listed[1]
    assert [entry["job_id"] for entry in parsed(as_json[1])] == [job_id]
    assert cancelled[1].startswith("cancelled after ")
    assert watching.returncode == 3
    assert re.search(r"cancelled after [\d.]+ s: 0 of 2 answered", watched.decode())


WRONG: list[tuple[str | None, list[str], int, str]] = [
    (None, [], 1, "No such file"),
    ("", [], 1, "the input has no requests"),
    ("\nhello\n", [], 2, "plain-text prompts need --provider and --model"),
    ('\n\n{"provider": "openrouter"}', [], 1, "line 3 model: Field required"),
    ("x\n", ["--provider", "no", "--model", "m"], 1, "no provider is named 'no'"),
    ("x\n", ["--provider", "ollama", "--model", "m", "--deadline", "0"], 1, "greater than 0"),
    ("x\n", ["--provider", "ollama", "--model", "m", "-o", "no/out"], 1, "no such directory"),
    ("hello\n", ["--provider", "ollama"], 2, "need --provider and --model"),
    ("hello\n", ["--system", "x"], 2, "--system needs"),
]


async def test_a_refused_option_or_line_is_named_with_the_file(orchestrator: Orchestrator) -> None:
    (orchestrator.directory / "in").write_text("hello\nbye\n")
    (orchestrator.directory / "in.ndjson").write_bytes(lines(["a"]) + b'{"provider":"ollama"}\n')

    _, _, option = await orchestrator("submit", "in", "--provider", "olama", "--model", "m")
    _, _, line = await orchestrator("submit", "in.ndjson")

    assert option.startswith("orchestrator: in: --provider: no provider is named 'olama'")
    assert line.startswith("orchestrator: in.ndjson: line 2 model: ")


async def test_wrong_input_is_named(orchestrator: Orchestrator) -> None:
    for text, argv, code, said in WRONG:
        if text is not None:
            (orchestrator.directory / "in").write_text(text)

        exited, output, errors = await orchestrator("submit", "in", *argv)

        assert (exited, output) == (code, ""), errors
        assert said in errors
        assert "Traceback" not in errors


async def test_pipes_and_links_are_read_and_written_as_they_are(orchestrator: Orchestrator) -> None:
    """A pipe can be read only once; neither pipes nor links are replaced by files."""
    os.mkfifo(orchestrator.directory / "in")
    os.mkfifo(orchestrator.directory / "out")
    (orchestrator.directory / "target").write_bytes(b"")
    (orchestrator.directory / "link").symlink_to("target")
    argv = ("--provider", "ollama", "--model", "m")

    writing = asyncio.to_thread((orchestrator.directory / "in").write_bytes, lines(["x"]))
    reading = asyncio.to_thread((orchestrator.directory / "out").read_text)
    (code, _, errors), _, through_pipes = await asyncio.gather(
        orchestrator("submit", "in", "-o", "out"), writing, reading
    )
    await orchestrator("submit", "-", *argv, "-o", "link", stdin=b"y\n")

    assert code == 0, errors
    assert [item["content"] for item in parsed(through_pipes)] == ["echo: x"]
    assert (orchestrator.directory / "out").is_fifo()
    assert (orchestrator.directory / "link").is_symlink()
    through_link = parsed((orchestrator.directory / "target").read_text())
    assert [item["content"] for item in through_link] == ["echo: y"]


async def test_an_unknown_job_is_an_error(orchestrator: Orchestrator) -> None:
    for command in ("status", "watch", "results", "cancel", "retry"):
        code, output, errors = await orchestrator(command, "nobody")

        assert (code, output) == (1, ""), command
        assert "no such job" in errors


async def test_a_reader_may_close_the_pipe(
    orchestrator: Orchestrator,
) -> None:
    (orchestrator.directory / "in").write_bytes(lines(str(n) for n in range(2000)))
    _, output, _ = await orchestrator("submit", "in", "--json")
    process = await orchestrator.start("results", json.loads(output)["job_id"])
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 — as `head` does

    async def over() -> bool:
        return process.returncode is not None

    await eventually(over)
    assert process.stderr is not None
    assert await process.stderr.read() == b""


async def test_a_deadline_in_a_batch_is_kept(deployment: Stack, orchestrator: Orchestrator) -> None:
    batch = {"requests": [chat("x", model="sim-latency-60000")], "deadline_s": 3}
    (orchestrator.directory / "in").write_text(json.dumps(batch))

    code, output, errors = await orchestrator("submit", "in", "--json")

    assert code == 3, errors
    assert json.loads(output)["status"] == "deadline_exceeded"
    assert (await deployment.stats())["total"] == 1


async def test_the_same_input_is_the_same_job_unless_new_is_given(
    orchestrator: Orchestrator, redis: ArqRedis, keys: Keys
) -> None:
    (orchestrator.directory / "in").write_bytes(lines(["x"]))
    argv = ("submit", "in", "--json")

    first, again = [json.loads((await orchestrator(*argv))[1])["job_id"] for _ in range(2)]
    assert first == again

    two_hours_ago_ms = (time.time() - 7201) * 1000
    await redis.hset(keys.job(first), "accepted_ms", str(two_hours_ago_ms))  # type: ignore[misc]
    _, _, said = await orchestrator("submit", "in")
    assert f"job {first} was accepted 2 h 0 min ago; use --new to create a new job" in said
    _, _, said = await orchestrator("submit", "in", "--new")
    assert "ago" not in said

    new, newest = [
        json.loads((await orchestrator(*argv, *more))[1])["job_id"] for more in (("--new",), ())
    ]
    assert new == newest != first


async def test_the_python_client_makes_the_same_job_of_the_same_requests(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    requests = [chat("é"), chat("b", temperature=0.5)]
    (orchestrator.directory / "in").write_text("".join(f"{json.dumps(r)}\n" for r in requests))
    argv = ("submit", "in", "--json", "--deadline", "60")
    _, output, _ = await orchestrator(*argv)

    async with AsyncClient(str(deployment.api.base_url)) as client:
        same = await client.submit(requests, deadline_s=60)
        other = await client.submit(requests)

    assert same.job_id == json.loads(output)["job_id"] != other.job_id


# Why a job is slow, from a terminal


async def test_a_paused_lane_is_named(deployment: Stack, orchestrator: Orchestrator) -> None:
    await deployment.simulate(retry_after="120")
    body = lines(["first"], model="sim-429x1") + lines(str(n) for n in range(20))
    (orchestrator.directory / "in").write_bytes(body)
    _, output, _ = await orchestrator("submit", "in", "--no-wait", "--json")
    job_id = json.loads(output)["job_id"]

    async def paused() -> bool:
        return (
            "the provider answered 429 (too many requests) and asked to wait 120 s"
            in (await orchestrator("top"))[1]
        )

    await eventually(paused)
    shown = (await orchestrator("status", job_id))[1]
    top = (await orchestrator("top"))[1]

    assert re.search(r"^openrouter/sim-429x1 +paused until \d\d:\d\d:\d\d UTC: ", top, re.MULTILINE)
    assert "warning: openrouter/sim-429x1 is paused for another 2 min" in shown


async def test_a_dead_worker_is_named(deployment: Stack, orchestrator: Orchestrator) -> None:
    deployment.workers[0].kill()

    async def lost() -> bool:
        shown = (await orchestrator("top"))[1]
        return " is lost: " in shown and " lost " in shown

    await eventually(lost)
    as_json = json.loads((await orchestrator("top", "--json"))[1])
    assert sorted(worker["state"] for worker in as_json["workers"]) == ["alive", "lost"]


async def test_a_failing_model_is_named(deployment: Stack, orchestrator: Orchestrator) -> None:
    await deployment.batch([chat(str(n), model="sim-404") for n in range(5)])

    async def named() -> bool:
        return "5 of 5 calls to sim-404" in (await orchestrator("top", "--once"))[1]

    await eventually(named)


# With a terminal, and without a deployment


@pytest.fixture
async def terminal() -> AsyncIterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


async def test_a_terminal_has_a_bar_for_each_provider(
    deployment: Stack, orchestrator: Orchestrator, terminal: Terminal
) -> None:
    await deployment.simulate(latency_ms=300)
    body = lines(str(n) for n in range(100)) + lines(["x"] * 50, provider="ollama")
    (orchestrator.directory / "in").write_bytes(body)

    process = await orchestrator.start("submit", "in", "-o", "out", terminal=terminal.slave)

    await terminal.shows("20 running")
    await terminal.shows("50/50")
    await terminal.shows("100/100")
    await terminal.shows("150 of 150 answered")
    assert await process.wait() == 0


async def test_top_keeps_running_through_a_restart_of_the_api(
    deployment: Stack, orchestrator: Orchestrator, terminal: Terminal
) -> None:
    process = await orchestrator.start("top", terminal=terminal.slave)
    await terminal.shows("All healthy")
    deployment.api_process.kill()
    await deployment.api_process.wait()
    await terminal.shows("Figures are from")
    await deployment.restart_api()
    await deployment.ready(2)
    await deployment.batch([chat("x")])
    await terminal.shows("1 of 1 (100%)")

    process.send_signal(signal.SIGINT)

    assert await process.wait() == 130


async def test_an_unreachable_api_is_reported_in_one_line(orchestrator: Orchestrator) -> None:
    code, output, errors = await orchestrator("jobs", url="http://127.0.0.1:9")

    assert (code, output) == (1, "")
    assert errors.startswith("orchestrator: Can't reach the API at http://127.0.0.1:9 (")
    assert errors.count("\n") == 1


async def test_the_shell_completes(environment: dict[str, str]) -> None:
    # The command finds out which shell has started it.
    script = f"{ORCHESTRATOR} --show-completion && true"
    code, output, _ = await execute(environment, "-c", script, program="bash")

    assert code == 0
    assert "complete -o default -F" in output
