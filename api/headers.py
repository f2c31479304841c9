"""The headers that a request for jobs may carry: Accept, Prefer, Idempotency-Key, Last-Event-ID."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Header, Query

from api.cursors import parse_cursor
from api.dependencies import SettingsDep
from api.errors import validation_error
from api.media_types import EVENT_STREAM, JSON, NDJSON
from api.stream_formats import STREAM_FORMATS, StreamFormat

# Idempotency-Key

MAX_IDEMPOTENCY_KEY = 255  # characters
_QUOTED_STRING = re.compile(r'"((?:[^"\\]|\\["\\])*)"')  # RFC 8941, 3.3.3


async def _idempotency_key(
    header: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Makes the request safe to repeat: the same key with the same body returns"
            " the same job, until `IDEMPOTENCY_TTL_SECONDS` after it has completed.",
        ),
    ] = None,
) -> str | None:
    """Reads the key as a quoted string (draft-ietf-httpapi-idempotency-key-header-07).

    Most clients send it without quotes, which is accepted, too.
    """
    if header is None:
        return None
    quoted = _QUOTED_STRING.fullmatch(header)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else header
    if not 0 < len(key) <= MAX_IDEMPOTENCY_KEY or not (key.isascii() and key.isprintable()):
        raise validation_error(
            f"should be 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters",
            "header",
            "Idempotency-Key",
        )
    return key


IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]


# Prefer, RFC 7240

MAX_PREFER = 1000  # characters, because the time to parse them grows with their square
_WAIT = re.compile(r"[0-9]{1,9}")
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*")+')  # a quoted value may hold commas


@dataclass(frozen=True, slots=True)
class Preferences:
    respond_async: bool = False
    wait_s: int | None = None

    @property
    def applied(self) -> str | None:
        """The value of the Preference-Applied header of the response."""
        names = []
        if self.respond_async:
            names.append("respond-async")
        if self.wait_s is not None:
            names.append(f"wait={self.wait_s}")
        return ", ".join(names) or None


def parse_prefer(header: str) -> Preferences:
    """Parses a Prefer header. The first preference of a kind counts.

    Unknown and malformed preferences are ignored, as RFC 7240 asks, and so is a header that is
    longer than `MAX_PREFER`.
    """
    respond_async, wait_s = False, None
    for preference in _PREFERENCE.findall(header) if len(header) <= MAX_PREFER else ():
        name, _, value = preference.partition(";")[0].partition("=")
        value = value.strip().strip('"')
        match name.strip().lower():
            case "respond-async":
                respond_async = True
            case "wait" if wait_s is None and _WAIT.fullmatch(value):
                wait_s = int(value)
    return Preferences(respond_async, wait_s)


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a client waits for its batch; 0 s for a client that does not wait."""

    seconds: float
    response_headers: dict[str, str]


async def _wait(
    settings: SettingsDep,
    mode: Annotated[
        Literal["sync", "async"],
        Query(
            description="`sync` waits for the results, up to `SYNC_WAIT_SECONDS`; `async` responds"
            " with 202 at once."
        ),
    ] = "sync",
    prefer: Annotated[
        list[str],
        Header(
            description="`respond-async` responds with 202 at once; `wait=SECONDS` waits at most"
            " that long for the results; both together wait first (RFC 7240)."
        ),
    ] = [],  # noqa: B006 — FastAPI copies it
) -> Wait:
    preferences = parse_prefer(", ".join(prefer))
    seconds = 0.0
    if mode == "sync":
        if preferences.wait_s is not None:
            # respond-async beside it asks for a 202 only when the wait is over (RFC 7240, 4.3).
            seconds = min(preferences.wait_s, settings.sync_wait_seconds)
        elif not preferences.respond_async:
            seconds = settings.sync_wait_seconds
    applied = preferences.applied
    return Wait(seconds, {"Preference-Applied": applied} if applied else {})


WaitPreference = Annotated[Wait, Depends(_wait)]


# Accept, RFC 9110, 12.5.1


def select_media_type(accept: str, offered: Collection[str], default: str) -> str:
    """Returns the offered media type to which the Accept header gives the highest weight.

    Returns the first of equal ones, and `default` if the header names none of them.
    """
    best, best_weight = default, 0.0
    for media_range in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in media_range.split(";"))
        weight = next((_weight(part) for part in parameters if part.startswith("q=")), 1.0)
        if media_type in offered and weight > best_weight:
            best, best_weight = media_type, weight
    return best


def _weight(parameter: str) -> float:
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 1.0


async def _stream_format(
    accept: Annotated[
        str,
        Header(
            description=f"`{NDJSON}` or `{EVENT_STREAM}` streams each item as soon as it has"
            " finished."
        ),
    ] = "*/*",
) -> StreamFormat | None:
    """Returns the format of a stream of items, or None for a single JSON response."""
    return STREAM_FORMATS.get(select_media_type(accept, (JSON, *STREAM_FORMATS), JSON))


StreamFormatDep = Annotated[StreamFormat | None, Depends(_stream_format)]


# Last-Event-ID, WHATWG HTML, 9.2.4


async def _last_event_id(
    header: Annotated[
        str,
        Header(
            alias="Last-Event-ID",
            description="The `id` of the last event that was read; the stream continues after it.",
        ),
    ] = "0",
) -> int:
    return parse_cursor(header, "Last-Event-ID")


LastEventId = Annotated[int, Depends(_last_event_id)]
