"""The media types that requests and responses have."""

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"  # server-sent events
