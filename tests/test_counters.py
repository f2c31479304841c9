"""Tests that counters of the history can be stored in Redis and read again."""

import pytest

from shared.monitoring.counters import (
    Calls,
    Counter,
    Durations,
    Level,
    LevelName,
    Quantity,
    Total,
    decode,
    encode,
)


@pytest.mark.parametrize(
    ("counter", "field"),
    [
        (Calls("ollama", "", "llama3.1:8b"), b"ollama calls - llama3.1:8b"),
        (
            Calls("ollama", "timeout", "a model, é 😀"),
            "ollama calls timeout a model, é 😀".encode(),
        ),
        (Calls("webhooks", "failed", ""), b"webhooks calls failed "),
        (Durations("ollama", 17), b"ollama duration 17"),
        (Durations("ollama", -26), b"ollama duration -26"),
        *((Total("ollama", quantity), f"ollama {quantity}".encode()) for quantity in Quantity),
        *((Level("ollama", name), f"ollama {name}".encode()) for name in LevelName),
    ],
)
def test_a_counter_is_a_field_and_back(counter: Counter, field: bytes) -> None:
    assert encode(counter) == field
    assert decode(field) == counter


@pytest.mark.parametrize("field", [b"ollama cost_usd", b"ollama calls", b"ollama queued today"])
def test_a_counter_of_a_newer_version_is_ignored(field: bytes) -> None:
    assert decode(field) is None
