"""Sets how many examples the property-based tests try.

These tests could try examples for hours. By default they try as few as a developer can wait for.
With `CI_DEPTH=full` in the environment they try more, and take some minutes longer. Every test runs
in both cases.
"""

import os

FULL = os.environ.get("CI_DEPTH") == "full"


def examples(usual: int, *, full: int) -> int:
    """Returns the number of examples that a test generates."""
    return full if FULL else usual
