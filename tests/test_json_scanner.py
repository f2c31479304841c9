"""Tests how the requests of a batch are found in its JSON, and how its parts are counted."""

import json
import random

import pytest

from shared import json_scanner
from shared.json_scanner import MAX_PARTS, TooManyParts, check_parts, scan

Value = object


def random_value(chance: random.Random, depth: int) -> Value:
    texts = ["", "a", '"', "\\", '\\"', "[{,]}", '{"requests":[', "é", "\n", "x" * 50]
    match chance.randrange(6 if depth else 3):
        case 0:
            return chance.choice(texts)
        case 1:
            return chance.choice([None, True, 1, -1.5e9])
        case 2:
            return chance.choice([[], {}])
        case 3:
            return [random_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    names = ["requests", "a", '"', "x\\", "model"]
    chosen = chance.sample(names, chance.randrange(4))
    return {name: random_value(chance, depth - 1) for name in chosen}


def parts_of(value: Value) -> int:
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(len(value) - 1, 0) + sum(map(parts_of, inner))
    return 0


async def test_a_batch_is_taken_apart_and_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seed in range(300):
        chance = random.Random(seed)
        monkeypatch.setattr(json_scanner, "SLICE_BYTES", chance.choice([1, 2, 7, 1000]))
        batch = {"a": random_value(chance, 3), "requests": random_value(chance, 4), "b": "]"}
        text = json.dumps(
            batch, indent=chance.choice([None, 1]), ensure_ascii=chance.choice([True, False])
        ).encode()

        scanned = await scan(bytearray(text))

        assert (scanned.depth, scanned.parts) == (0, parts_of(batch)), seed
        requests = batch["requests"]
        if isinstance(requests, list):
            found = [json.loads(text[start:end]) for start, end in scanned.requests or ()]
            assert found == requests, seed
            batch |= {"requests": [None] * len(requests)}
        else:
            assert scanned.requests is None, seed
        assert json.loads(scanned.skeleton()) == batch, seed


@pytest.mark.parametrize(
    ("text", "requests", "skeleton"),
    [
        ('{"re\\u0071uests" : [ {} ]}', [" {} "], '{"re\\u0071uests" : [null]}'),
        (
            '{"requests":[1],"requests":[2,3]}',
            ["2", "3"],
            '{"requests":[null],"requests":[null,null]}',
        ),
        ('{"requests":[ ]}', [], '{"requests":[]}'),
        ('{"requests":[1,]}', ["1", ""], '{"requests":[null,null]}'),
        ('{"requests":[{"a":1} {}]', ['{"a":1} {}'], '{"requests":[null]'),
        ('{"requests":[{"a":"', ['{"a":"'], '{"requests":[null'),
        ('{"a":{"requests":[1]}}', None, '{"a":{"requests":[1]}}'),
        ('[{"requests":[1]}]', None, '[{"requests":[1]}]'),
        ('{"requests":{"a":[1]}}', None, '{"requests":{"a":[1]}}'),
        ("]]}}", None, "]]}}"),
    ],
)
async def test_odd_texts(text: str, requests: list[str] | None, skeleton: str) -> None:
    scanned = await scan(text.encode())
    found = None
    if scanned.requests is not None:
        found = [text[start:end] for start, end in scanned.requests]
    assert (scanned.skeleton().decode(), found) == (skeleton, requests)


@pytest.mark.parametrize("piece", [b"1,", b"[", b"{", b'{"a":1},'])
async def test_the_number_of_parts_is_limited(piece: bytes) -> None:
    text = b"[" + piece * (MAX_PARTS + 1)
    with pytest.raises(TooManyParts):
        await check_parts(text)
    await check_parts(b'["' + b",{[" * MAX_PARTS + b'"]')


async def test_the_scan_of_an_invalid_text_ends_early() -> None:
    text = b'""' * 20 * MAX_PARTS
    scanned = await scan(text)
    assert scanned.is_invalid
