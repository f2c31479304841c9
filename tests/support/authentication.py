"""API keys of two owners, and the setting that admits them."""

import hashlib

ANN, BOB, OLD = "ann's key", "bob's key", "ann's former key"


def entry(name: str, key: str) -> str:
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"


# Two lines, spaces and a digest in capital letters: all of it is allowed.
API_KEYS = f"{entry('ann', ANN)}, {entry('bob', BOB)}\n{entry('ann', OLD).upper()}".replace(
    "ANN", "ann"
)
