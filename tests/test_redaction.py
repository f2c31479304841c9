"""Tests that a redacted error text contains no part of a key or a prompt."""

import json

import pytest

from worker.providers.redaction import MAX_COMPARED, MAX_SHOWN_TEXT, redact

KEY = "sk-or-v1-0123456789abcdef"
ENGLISH = "The patient Ada Lovelace, born in 1815, complains of a cough."
CHINESE = "病人王小明今年三十五岁咳嗽已有两周请给出诊断建议"
RUSSIAN = "Пациентка Анна Каренина жалуется на кашель"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("model not found, try pulling it first", "model not found, try pulling it first"),
        (f"cannot take: {ENGLISH}", "cannot take: …"),
        (f"key {KEY} is not known", "key … is not known"),
        (f"twice: {KEY} {KEY}", "twice: … …"),
        ("no such patient", "no such patient"),
        (f"bad: {ENGLISH[:30]}", "…"),
        (f"bad: {ENGLISH.upper()}", "…"),
        (f"bad: {' '.join(ENGLISH)}", "…"),
        (f"bad: {CHINESE[:9]}", "…"),
        (f"bad: {json.dumps(RUSSIAN)}", "…"),
        (f"bad: {json.dumps(RUSSIAN)[:100]}", "…"),
        (f"Incorrect key: {KEY[:16]}****", "…"),
    ],
)
def test_redact(text: str, shown: str) -> None:
    assert redact([KEY, ENGLISH, CHINESE, RUSSIAN], text) == shown


def test_a_short_prompt_cut_short() -> None:
    assert redact(["patient Ada Lovelace"], "bad: patient Ada Lovel") == "…"


def test_a_prompt_inside_another() -> None:
    assert redact(["Ada", "I am Ada Lovelace"], "no: I am Ada Lovelace") == "no: …"


@pytest.mark.parametrize("at", range(2_980, 3_010, 3))
def test_a_key_far_into_a_long_text(at: int) -> None:
    prompt = "word " * 580
    text = redact([KEY, prompt], f"x {prompt}".ljust(at, ".") + KEY)

    assert KEY[:8] not in text


@pytest.mark.parametrize("at", range(MAX_SHOWN_TEXT - len(KEY), MAX_SHOWN_TEXT))
def test_a_key_at_the_cut(at: int) -> None:
    assert KEY[:8] not in redact([KEY], "." * at + KEY)


def test_a_long_text_is_cut() -> None:
    assert redact([KEY], "no" * 1000) == "no" * (MAX_SHOWN_TEXT // 2) + "…"


def test_beside_very_long_prompts_the_text_is_left_out() -> None:
    assert redact(["ab " * MAX_COMPARED], "model not found") == "…"


def test_lone_surrogates() -> None:
    assert redact(["\\ud800 and so on and so on"], r"no \ud800 at all") == r"no \ud800 at all"
