"""The Prefer header, RFC 7240: what it asks for and what was granted."""

import re
from dataclasses import dataclass

MAX_CHARACTERS = 1000  # the time to take a header apart grows with the square of them
_WAIT = re.compile(r"[0-9]{1,9}")
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*")+')  # a quoted value may hold commas


@dataclass(frozen=True, slots=True)
class Preferences:
    respond_async: bool = False
    wait_s: int | None = None

    @property
    def applied(self) -> str | None:
        """For `Preference-Applied`."""
        names = []
        if self.respond_async:
            names.append("respond-async")
        if self.wait_s is not None:
            names.append(f"wait={self.wait_s}")
        return ", ".join(names) or None


def parse_prefer(header: str) -> Preferences:
    """Unknown or malformed preferences are ignored, as the RFC asks, and whatever is too long; the
    first of a kind counts."""
    respond_async, wait_s = False, None
    for preference in _PREFERENCE.findall(header) if len(header) <= MAX_CHARACTERS else ():
        name, _, value = preference.partition(";")[0].partition("=")
        value = value.strip().strip('"')
        match name.strip().lower():
            case "respond-async":
                respond_async = True
            case "wait" if wait_s is None and _WAIT.fullmatch(value):
                wait_s = int(value)
    return Preferences(respond_async, wait_s)
