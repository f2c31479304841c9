"""Names the media types of requests and responses."""

from collections.abc import Mapping

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"  # server-sent events

# Clients have several names for NDJSON, because it has no registered media type.
NDJSON_NAMES = (
    NDJSON,
    "application/json-lines",
    "application/jsonl",
    "application/jsonlines",
    "application/ndjson",
    "application/x-jsonl",
    "application/x-jsonlines",
)
_SENT_FOR_NDJSON = {*NDJSON_NAMES, "application/octet-stream", "text/plain"}


def declared_media_type(headers: Mapping[str, str], *, default: str) -> str:
    """Returns the media type of a body, in lower case; `default` without a Content-Type.

    Returns NDJSON for the other types that clients send for it. If a page of another site has sent
    the request, returns only what the request says: a browser lets such a page send a body without
    a type or as text/plain, but asks this server before it sends JSON or NDJSON.
    """
    declared = headers.get("content-type")
    if declared is None:
        return "" if _is_from_another_site(headers) else default
    media_type = declared.partition(";")[0].strip().lower()
    if media_type in _SENT_FOR_NDJSON and not _is_from_another_site(headers):
        return NDJSON
    return media_type


def _is_from_another_site(headers: Mapping[str, str]) -> bool:
    """Returns whether the header Origin, which browsers send, names another host than Host."""
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")
