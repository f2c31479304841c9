"""Names the media types of requests and responses."""

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"  # server-sent events
