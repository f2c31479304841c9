"""Tests how the modules of tests depend on each other."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
IMPORTS_A_TEST = re.compile(
    r"^ *(?:from +[\w.]*|import +[\w., ]*)\b(?:test_\w+|conftest)\b", re.MULTILINE
)


def test_no_module_imports_a_test_module() -> None:
    """What several modules of tests need is in tests/support/, or a fixture of a conftest.py."""
    modules = sorted(TESTS.rglob("*.py"))

    found = [
        f"{path.relative_to(TESTS)}: {match[0].strip()}"
        for path in modules
        for match in IMPORTS_A_TEST.finditer(path.read_text())
    ]

    assert modules
    assert found == []
