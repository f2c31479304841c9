"""Reads the request headers Accept, Prefer, Idempotency-Key, Last-Event-ID and
x-stainless-retry-count."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Header, Query

from api.dependencies.cursors import parse_cursor
from api.dependencies.services import SettingsDep
from api.errors.validation_error import validation_error
from api.media_types import EVENT_STREAM, JSON, NDJSON, NDJSON_NAMES
from api.streams.stream_formats import STREAM_FORMATS, StreamFormat

# Idempotency-Key

MAX_IDEMPOTENCY_KEY = 255  # characters
_QUOTED_STRING = re.compile(r'"((?:[^"\\]|\\["\\])*)"')  # RFC 8941, 3.3.3


async def _idempotency_key(
    header: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Makes it safe to repeat the submission: the same key, requests and options"
            " return the same job, until `IDEMPOTENCY_TTL_SECONDS` after the job has ended.",
        ),
    ] = None,
) -> str | None:
    """Returns the key without quotes, or None if there is no key.

    The header must be a quoted string (draft-ietf-httpapi-idempotency-key-header-07), but most
    clients send the key without quotes. Both are accepted. Raises RequestValidationError.
    """
    if header is None:
        return None
    quoted = _QUOTED_STRING.fullmatch(header)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else header
    if not 0 < len(key) <= MAX_IDEMPOTENCY_KEY or not (key.isascii() and key.isprintable()):
        raise validation_error(
            f"the key must be 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters",
            "header",
            "Idempotency-Key",
        )
    return key


IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]


# x-stainless-retry-count


async def is_repetition(
    header: Annotated[
        str,
        Header(
            alias="x-stainless-retry-count",
            description="The number of repetitions, which OpenAI's clients send. A repetition gets"
            " the answer of the same call, if that call still runs, or the file or batch that the"
            " first request has created.",
        ),
    ] = "0",
) -> bool:
    """Returns whether the client sends the request again because it got no response."""
    return header.isdecimal() and header.strip("0") != ""


RepetitionDep = Annotated[bool, Depends(is_repetition)]


# Prefer, RFC 7240

MAX_PREFER = 1000  # characters; the time to parse a header grows with the square of its length
_WAIT = re.compile(r"[0-9]{1,9}")
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*")+')  # a quoted value may contain commas


@dataclass(frozen=True, slots=True)
class Preferences:
    respond_async: bool = False
    wait_s: int | None = None

    @property
    def applied(self) -> str | None:
        """Returns the value of the response header Preference-Applied, or None."""
        names = []
        if self.respond_async:
            names.append("respond-async")
        if self.wait_s is not None:
            names.append(f"wait={self.wait_s}")
        return ", ".join(names) or None


def parse_prefer(header: str) -> Preferences:
    """Returns the preferences of a Prefer header. If `wait` is repeated, the first value is used.

    Unknown and malformed preferences are ignored, as RFC 7240 requires. A header that is longer
    than `MAX_PREFER` is ignored, too.
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
class ClientWait:
    """Says how long a client waits for the results: 0 s if the client does not wait.

    `response_headers` tell the client which of its preferences were understood.
    """

    seconds: float
    response_headers: dict[str, str]


async def _wait(
    settings: SettingsDep,
    mode: Annotated[
        Literal["sync", "async"],
        Query(
            description="`sync` waits for the results, up to `SYNC_WAIT_SECONDS`; `async` responds"
            " with 202 immediately."
        ),
    ] = "sync",
    prefer: Annotated[
        list[str],
        Header(
            description="With `respond-async`, the API responds with 202 immediately. With"
            " `wait=SECONDS`, it responds with 202 if the results take longer. With both, `wait`"
            " applies (RFC 7240)."
        ),
    ] = [],  # noqa: B006 — FastAPI copies the list
) -> ClientWait:
    preferences = parse_prefer(", ".join(prefer))
    seconds = 0.0
    if mode == "sync":
        if preferences.wait_s is not None:
            # Together with wait, respond-async asks for a 202 only after the wait (RFC 7240, 4.3).
            seconds = min(preferences.wait_s, settings.sync_wait_seconds)
        elif not preferences.respond_async:
            seconds = settings.sync_wait_seconds
    applied = preferences.applied
    return ClientWait(seconds, {"Preference-Applied": applied} if applied else {})


WaitPreference = Annotated[ClientWait, Depends(_wait)]


# Accept, RFC 9110, 12.5.1


def select_media_type(accept: str, offered: Collection[str], default: str) -> str:
    """Returns the offered media type to which the Accept header gives the highest weight.

    If several media types have this weight, returns the first of these in the header. Returns
    `default` if the header gives no offered media type a weight above 0. A range like `*/*` names
    no media type, so it is ignored.
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


_FORMATS: dict[str, StreamFormat | None] = {
    JSON: None,
    EVENT_STREAM: STREAM_FORMATS[EVENT_STREAM],
    **dict.fromkeys(NDJSON_NAMES, STREAM_FORMATS[NDJSON]),
}


async def _stream_format(
    accept: Annotated[
        str,
        Header(
            description=f"With `{NDJSON}` or `{EVENT_STREAM}`, the response sends each result as"
            " soon as the request has finished. Otherwise, the response is one JSON document."
        ),
    ] = "*/*",
) -> StreamFormat | None:
    """Returns the format of a stream of items, or None for a single JSON response."""
    return _FORMATS[select_media_type(accept, _FORMATS, JSON)]


StreamFormatDep = Annotated[StreamFormat | None, Depends(_stream_format)]


# Last-Event-ID, WHATWG HTML, 9.2.4


async def _last_event_id(
    header: Annotated[
        str,
        Header(
            alias="Last-Event-ID",
            description="The `id` of the last event that you have read. The stream continues after"
            " that event. An empty value is the same as no header.",
        ),
    ] = "",
) -> int:
    return parse_cursor(header or "0", "Last-Event-ID")


LastEventId = Annotated[int, Depends(_last_event_id)]
