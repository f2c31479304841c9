"""Defines the API keys of two owners, and the setting API_KEYS that accepts these keys."""

import hashlib

ANN, BOB, OLD = "ann's key", "bob's key", "ann's former key"


def entry(name: str, key: str) -> str:
    """Returns an entry of API_KEYS."""
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"


# API_KEYS may have several lines, spaces, and digests in capital letters.
API_KEYS = f"{entry('ann', ANN)}, {entry('bob', BOB)}\n{entry('ann', OLD).upper()}".replace(
    "ANN", "ann"
)
