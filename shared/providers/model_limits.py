"""Defines the limits that `providers.toml` sets for the models of a provider."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Holds the limits of `[providers.NAME.models."PATTERN"]`.

    These limits apply in addition to the limits of the provider.

    pattern: a model's name, or a glob such as `gpt-5*` (`*`, `?`, `[…]`), in lower case. All models
        that match share the limits.
    max_concurrent_requests: limit of running calls.
    rpm, tpm, rpd: requests and tokens a minute, and requests a day.

    None means that there is no such limit.
    """

    pattern: str
    max_concurrent_requests: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None


def limits_of(models: Iterable[ModelLimits], model: str) -> ModelLimits | None:
    """Returns the limits with the name of a model, or else the limits of the first matching glob.

    Returns None if there are no such limits.
    """
    name, first = model.lower(), None
    for limits in models:
        if limits.pattern == name:
            return limits
        if first is None and fnmatchcase(name, limits.pattern):
            first = limits
    return first


def lua_pattern(glob: str) -> str:
    """Returns the Lua pattern that matches the same names as a glob."""
    pattern, rest = "^", glob
    while rest:
        character, rest = rest[0], rest[1:]
        closing = rest.find("]", 1)
        if character == "*":
            pattern += ".*"
        elif character == "?":
            pattern += "."
        elif character == "[" and closing > 0:
            negated, members = rest.startswith("!"), rest[rest.startswith("!") : closing]
            escaped = "".join(_escape(c) if c != "-" else c for c in members)
            pattern += f"[{'^' if negated else ''}{escaped}]"
            rest = rest[closing + 1 :]
        else:
            pattern += _escape(character)
    return pattern + "$"


def _escape(character: str) -> str:
    return character if character.isalnum() or not character.isascii() else f"%{character}"
