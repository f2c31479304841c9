"""How deep the tests search that could search for hours.

By default they search as deep as a developer can wait for; with `CI_DEPTH=full` in the environment
they search deeper, and take minutes more. No test is left out either way.
"""

import os

FULL = os.environ.get("CI_DEPTH") == "full"


def examples(usual: int, *, full: int) -> int:
    """Returns the number of examples to generate."""
    return full if FULL else usual
