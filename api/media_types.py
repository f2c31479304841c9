"""Names the media types of requests and responses."""

from collections.abc import Mapping

from shared.dialects import sse

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = sse.EVENT_STREAM

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
    """Returns the media type of a body, in lower case, or `default` if there is no Content-Type.

    Returns NDJSON for all names of NDJSON, and for the general types that clients send for NDJSON:
    `application/octet-stream` and `text/plain`.
    """
    declared = headers.get("content-type")
    if declared is None:
        return default
    media_type = declared.partition(";")[0].strip().lower()
    return NDJSON if media_type in _SENT_FOR_NDJSON else media_type
