"""Tests which requests `orchestrator submit` makes of a table, and which inputs it refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from cli.input_errors import InputError
from cli.request_file import InputOptions, read_requests

LONG = 300 * 1024  # characters of a text that the compared part of a file cannot contain


def prompts(path: Path, **options: Any) -> list[dict[str, Any]]:
    given = InputOptions(provider="ollama", model="m", **options)
    return [json.loads(line) for line in read_requests(str(path), given) if line]


def texts(requests: list[dict[str, Any]]) -> list[str]:
    return [request["messages"][-1]["content"] for request in requests]


@pytest.mark.parametrize("name", ["docs.csv", "docs.txt"])
@pytest.mark.parametrize("long", [[LONG], [10_000] * 60, [1, LONG], [4, 2 * LONG, 4]])
def test_a_table_of_long_texts_is_read_whatever_its_name(
    name: str, long: list[int], tmp_path: Path
) -> None:
    path = tmp_path / name
    documents = [f"{n}, " + "word\n" * (size // 5) for n, size in enumerate(long)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "document"), *enumerate(documents)])

    requests = prompts(path, field="document", id_field="id")

    assert texts(requests) == documents
    assert [request["request_id"] for request in requests] == [str(n) for n in range(len(long))]
    with pytest.raises(InputError, match="with the columns id, document"):
        prompts(path)


def test_a_column_that_the_user_names_makes_a_table(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text('text\n"two\nlines"\nHello\n')

    assert texts(prompts(path, field="text")) == ["two\nlines", "Hello"]


def test_empty_values_beyond_the_last_column_cut_nothing_off(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,text\n1,a,\n2,b,,\n")

    assert texts(prompts(path, field="text")) == ["a", "b"]


REFUSED = [
    ("t.csv", "id,prompt\n", {}, "the table has the columns id, prompt, but no rows"),
    ("t.csv", 'id,prompt\n1,"a\n2,b\n', {}, "the quote that opens in the row of line 2 is not"),
    ("t.csv", 'id,prompt\n1,a\n2,"b\n', {}, "the quote that opens in the row of line 3 is not"),
    (
        "t",
        'id,prompt\n1,"a\n2,b\n',
        {},
        "looks like CSV with the columns id, prompt, but the quote",
    ),
    ("t", 'id,prompt\n1,"a" b\n', {}, "looks like CSV with the columns id, prompt, but line 2 is"),
    ("t", "id,prompt\n1,a\n2,b, c\n", {}, "but its rows have different lengths. Put a text that"),
    (
        "t.csv",
        "id,prompt\n1,a\n2,Hello, how are you?\n",
        {},
        "row 2 (line 3) has 3 values, but the table has 2 columns. Put a text that contains ','",
    ),
    ("t.csv", "prompt\na, b\n", {}, "row 1 (line 2) has 2 values, but the table has 1 column."),
    ("t.csv", "prompt;n\na; b;1\n", {}, "row 1 (line 2) has 3 values, but the table has 2 columns"),
    ("t.csv", "id,prompt,prompt\n1,a,b\n", {}, "two columns have the name 'prompt'. Rename one"),
    (
        "t.csv",
        'id,prompt\n6,"a\nb"\n5,c\n6,d\n',
        {"id_field": "id"},
        "row 3 (line 5) has the same id '6' as row 1 (line 3)",
    ),
    (
        "t.ndjson",
        '{"i": 6, "prompt": "a"}\n\n{"i": "6", "prompt": "b"}\n',
        {"id_field": "i"},
        "line 3 has the same id '6' as line 1",
    ),
    ("t.csv", "id,prompt\n1,a\n", {"id_field": "ID"}, "no column 'ID'; it has id, prompt"),
    ("t.csv", "id,My text\n1,a\n", {"field": "x"}, "Add --field 'My text' to send"),
    ("t.ndjson", '{"my text": "a"}\n', {"field": None}, "add --field 'my text', --provider"),
    (
        "t.csv",
        "id,prompt\n1,ä\n".encode("cp1252"),
        {},
        "line 2 is not UTF-8 text. Convert it first",
    ),
    ("t.json", '["ä"]'.encode("cp1252"), {"field": None}, "line 1 is not UTF-8 text. Convert it"),
    (
        "t.json",
        '["a",\n"b",]',
        {"field": None},
        "the JSON array is broken at line 2",
    ),
    ("t.json", '["a"]\n["b"]', {"field": None}, "the JSON array is broken at line 2"),
    ("t", '"a"\n"b\n', {"field": None}, "before line 2 are JSON strings, but line 2 is not."),
]


@pytest.mark.parametrize(("name", "content", "options", "said"), REFUSED)
def test_an_input_that_cannot_be_read_is_refused_with_the_reason(
    name: str, content: str | bytes, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)

    with pytest.raises(InputError) as refused:
        prompts(path, **{"field": "prompt", **options} if name != "t" else {})

    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "Hello,world\nWrite a poem about the sea\nSay hello\n",
        "Convert 1,000 euros to dollars",
        "[1] Read the first chapter\n[2] Read the second chapter\n",
        "{name}, write a letter\n",
        '"Hello," she said.\n"Bye."\n',
    ],
)
def test_lines_of_text_stay_prompts(text: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(text)

    assert texts(prompts(path)) == text.splitlines()
