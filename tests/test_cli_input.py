"""Tests that `orchestrator submit` recognises its input, and continues the same job."""

import gzip
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from support.command import Orchestrator, execute
from support.jobs import job_ids, lines, parsed
from support.stack import Stack

from cli.input_errors import InputError
from cli.input_kind import HEAD_BYTES
from cli.request_file import BATCH_BYTES, InputOptions, read_requests

PROMPTS = ("--provider", "ollama", "--model", "m")


CSV = 'id,text\n1,"a, b"\n2,"two\nlines"\n'
REFUSED: list[tuple[str, str | bytes, tuple[str, ...], str]] = [
    ("t.csv", CSV, PROMPTS, "t.csv: the input is CSV with the columns id, text. Add --field text"),
    ("-", CSV, PROMPTS, "-: the input is CSV with the columns id, text. Add --field text"),
    ("one.csv", "item\na\n", PROMPTS, "CSV with the columns item. Add --field item"),
    ("t.tsv", "id\tquery\n1\tx\n", PROMPTS, "TSV with the columns id, query. Add --field query"),
    ("-", "id;Prompts\n1;x\n", (), "CSV (with semicolons) with the columns id, Prompts."),
    ("t.csv", CSV, (*PROMPTS, "--field", "txt"), "CSV with no column 'txt'; it has id, text"),
    ("t.csv", CSV, ("--field", "text"), "prompts need --provider and --model"),
    ("j", '{"id": 1, "prompt": "x"}', PROMPTS, "has the fields prompt, but is not a request."),
    ("j", '{"id": "a", "text": "x"}', (), "add --field text, --provider and --model"),
    ("s", '"green"\n"red"\n', (), "prompts need --provider and --model"),
    ("p", "PAR1\0\0rows\0PAR1", PROMPTS, "the input is a Parquet file. Convert it first:"),
    ("p", gzip.compress(b"x\n"), PROMPTS, "the input is compressed with gzip. Convert it first:"),
    ("p", "héllo\n".encode("utf-16"), PROMPTS, "the input is UTF-16 text. Convert it first:"),
    ("p", b"a\0b\n", PROMPTS, "the input is not text: it contains zero bytes"),
    ("p", "café\n".encode("latin-1"), PROMPTS, "line 1 is not UTF-8 text"),
    ("t.csv", "id,text\n1,\n", (*PROMPTS, "--field", "text"), "row 1 (line 2) has no text in"),
    ("j", '{"text": "x"}\n[]\n', (*PROMPTS, "--field", "text"), "line 2 is not a JSON object"),
    ("x", "hello\n", (*PROMPTS, "--format", "openai"), "--format is for requests in JSON"),
    ("x", "hello\n", (*PROMPTS, "--field", "a"), "--field is for tables and JSON objects"),
    ("x", "hello\n", (*PROMPTS, "--key", "a", "--new"), "--key and --new cannot be used together"),
]


async def test_an_input_that_is_not_plain_text_is_named_and_nothing_is_submitted(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    for name, content, argv, said in REFUSED:
        body = content.encode() if isinstance(content, str) else content
        if name != "-":
            (orchestrator.directory / name).write_bytes(body)
        code, output, errors = await orchestrator("submit", name, *argv, stdin=body)

        assert code in {1, 2}, (name, argv)
        assert output == ""
        assert said in errors, (name, argv, errors)
        assert "Traceback" not in errors
    assert await job_ids(deployment) == []


@pytest.mark.parametrize("text", ["[{}]", '{{"requests": [{}]}}'])
def test_every_digit_of_a_request_is_kept(text: str, tmp_path: Path) -> None:
    request = '{"provider":"openai","seed":12345678901234567890123,"x":"\\u00e9"}'
    path = tmp_path / "requests.json"
    path.write_text("\ufeff" + text.format(request))

    assert [line.decode() for line in read_requests(str(path), InputOptions())] == [request]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[{"provider": "openai"}, {"x": "\\ud800"}]', "value 2 of the array"),
        ('["x", "\\ud800"]', "value 2 of the array"),
        ('{"requests": [{"x": NaN}]}', "request 1 of the batch"),
        ('"x"\n"\\ud800"\n', "line 2"),
    ],
)
def test_half_of_a_surrogate_pair_is_refused(text: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "requests.json"
    path.write_text(text)

    with pytest.raises(InputError, match=rf"^{place} contains what JSON does not allow"):
        read_requests(str(path), InputOptions(provider="openai", model="m"))


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ('["hi", "ho"]', {"field": "x"}, "--field is for tables and JSON objects"),
        ('["hi", "ho"]', {"id_field": "x"}, "--id-field is for tables and JSON objects"),
        ("hi\n", {"id_field": "x"}, "--id-field is for tables and JSON objects"),
        ('"hi"\n"ho"\n', {"id_field": "x"}, "--id-field is for tables and JSON objects"),
        ('[{"text": "a"}, "b"]', {"field": "text"}, "value 2 is a string; --field and"),
        ('[{"text": "a"},]', {}, "the JSON array is broken at line 1, column 15: trailing comma"),
        ('[\n"a",\n"b" "c"]', {}, "the JSON array is broken at line 3, column 5: unexpected char"),
        ('\ufeff [{"text": "a"}', {}, "the JSON array is broken at line 1, column "),
        ('["a"] and text', {}, "unexpected content after document. If each line is a prompt, add"),
    ],
)
def test_an_input_in_json_is_not_sent_as_other_prompts(
    content: str, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "input"
    path.write_text(content)

    with pytest.raises(InputError) as refused:
        read_requests(str(path), InputOptions(provider="openai", model="m", **options))

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ('[{"text": "', '"}]', "a JSON array must have at most 64 MB. Write one request on each"),
        ('{"requests": [{"x": "', '"}]}', "a JSON batch must have at most 64 MB. Write one"),
    ],
)
def test_a_large_json_document_is_refused_with_a_command_that_divides_it(
    start: str, end: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "input"
    with path.open("w") as file:
        file.write(start + "x" * HEAD_BYTES)
        file.seek(BATCH_BYTES)  # a hole, which takes no place on the disk
        file.write(end)

    with pytest.raises(InputError) as refused:
        read_requests(str(path), InputOptions(provider="openai", model="m"))

    assert str(refused.value).startswith(said)
    assert "FILE | orchestrator submit -" in str(refused.value)


TAKEN = [
    ("t.csv", CSV, ("--field", "text"), ["a, b", "two\nlines"]),
    ("-", "\ufeff" + CSV, ("--field", "text"), ["a, b", "two\nlines"]),
    ("t.tsv", "query\tid\nx\t1\n", ("--field", "query"), ["x"]),
    ("j", '{"id": 1, "prompt": "x"}\n\n{"prompt": "y"}\n', ("--field", "prompt"), ["x", "y"]),
    ("a", '[{"text": "x"}, {"text": "y"}]', ("--field", "text"), ["x", "y"]),
    ("s", '"green"\n"two\\nlines"\n', (), ["green", "two\nlines"]),
    ("a", '["x", "y"]', (), ["x", "y"]),
    ("p", "Hello, world\nHi, there\n", (), ["Hello, world", "Hi, there"]),
    ("p", '"Hello," she said.\n"Bye."\n', (), ['"Hello," she said.', '"Bye."']),
    ("p", "{name}, write\n[INST] x\n", (), ["{name}, write", "[INST] x"]),
    ("p", "[1] one\n[ ] two\n", (), ["[1] one", "[ ] two"]),
    ("p", "id,text\n1,x\n", ("--lines",), ["id,text", "1,x"]),
]


async def test_each_form_of_prompts_becomes_these_prompts(orchestrator: Orchestrator) -> None:
    for name, content, argv, prompts in TAKEN:
        if name != "-":
            (orchestrator.directory / name).write_text(content)
        code, output, errors = await orchestrator(
            *("submit", name, *PROMPTS, *argv, "-o", "-"), stdin=content.encode()
        )

        assert code == 0, (name, argv, errors)
        assert [item["content"] for item in parsed(output)] == [f"echo: {text}" for text in prompts]


async def test_a_column_becomes_the_request_id(orchestrator: Orchestrator) -> None:
    (orchestrator.directory / "t.csv").write_text(CSV)

    _, output, _ = await orchestrator(
        *("submit", "t.csv", *PROMPTS, "--field", "text", "--id-field", "id", "-o", "-")
    )

    assert [item["request_id"] for item in parsed(output)] == ["1", "2"]


# The same job


async def test_an_interrupted_new_job_is_continued_by_the_same_command(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    await deployment.simulate(latency_ms=300)
    (orchestrator.directory / "in").write_bytes(lines(str(n) for n in range(40)))
    earlier = json.loads((await orchestrator("submit", "in", "--json"))[1])["job_id"]
    first = await orchestrator.start("submit", "in", "-o", "o u t", "--new")
    assert first.stderr
    assert (await first.stderr.readline()).startswith(b"job ")  # the command has the reply
    await deployment.in_flight(10)

    first.send_signal(signal.SIGINT)
    _, errors = await first.communicate()
    _, output, _ = await orchestrator("submit", "in", "-o", "o u t", "--json")

    job_id = json.loads(output)["job_id"]
    assert first.returncode == 130
    assert "To continue: orchestrator submit in -o 'o u t'\n" in errors.decode()
    assert f"To cancel:   orchestrator cancel {job_id}\n" in errors.decode()
    assert sorted(await job_ids(deployment)) == sorted([earlier, job_id])
    assert len(parsed((orchestrator.directory / "o u t").read_text())) == 40


async def test_ctrl_c_says_how_to_get_the_results_of_an_input_that_was_piped(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    await deployment.simulate(latency_ms=60_000)
    process = await orchestrator.start("submit", "-", *PROMPTS, "-o", "out")
    assert process.stdin
    process.stdin.write(b"x\n")
    process.stdin.close()
    assert process.stderr
    assert (await process.stderr.readline()).startswith(b"job ")  # the command has the reply

    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()

    [job_id] = await job_ids(deployment)
    assert f"To continue: orchestrator results {job_id} -o out\n" in errors.decode()


async def test_without_a_place_for_its_key_a_new_job_is_continued_by_its_id(
    deployment: Stack, orchestrator: Orchestrator
) -> None:
    await deployment.simulate(latency_ms=60_000)
    (orchestrator.directory / "in").write_bytes(lines(["x"]))
    orchestrator.environment["XDG_STATE_HOME"] = "/proc/nowhere"
    process = await orchestrator.start("submit", "in", "--new", "-o", "out")
    assert process.stderr
    assert (await process.stderr.readline()).startswith(b"job ")  # the command has the reply

    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()

    [job_id] = await job_ids(deployment)
    assert f"To continue: orchestrator results {job_id} -o out\n" in errors.decode()


@pytest.mark.parametrize(
    ("argv", "option"),
    [
        (("submit", "in", "--model", "a", "--model", "b"), "--model"),
        (("submit", "in", "-o", "a", "--output", "b"), "--output"),
        (("submit", "in", "--wait", "--no-wait"), "--wait"),
        (("jobs", "--limit", "1", "--limit", "2"), "--limit"),
        (("up", "--port", "1", "--port", "2"), "--port"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
async def test_an_option_that_is_given_twice_is_refused(
    environment: dict[str, str], argv: tuple[str, ...], option: str
) -> None:
    code, _, errors = await execute(environment, *argv)

    assert code == 2
    assert f"Option '{option}' is given 2 times." in errors
