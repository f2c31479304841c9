"""What `/docs` and the README show of each feature; a test runs them."""

_JSON = "-H 'Content-Type: application/json'"
_NDJSON = "-H 'Content-Type: application/x-ndjson'"

# What it does, and how it is asked for.
EXAMPLES = {
    "A job of any size: one request a line": (
        f"curl -s localhost:8000/jobs {_NDJSON} --data-binary @requests.ndjson"
    ),
    "Its state": "curl -s localhost:8000/jobs/$JOB",
    "Its results, one a line; waits for those that have not ended": (
        "curl -sN localhost:8000/jobs/$JOB/results"
    ),
    "Only what failed, as it ended, after the line with that `cursor`": (
        'curl -sN "localhost:8000/jobs/$JOB/results?order=completion&status=failed&after=0"'
    ),
    "Server-sent events; `Last-Event-ID` goes on where a connection broke": (
        "curl -sN localhost:8000/jobs/$JOB/events -H 'Last-Event-ID: 0'"
    ),
    "A batch whose items come the moment they end (or `text/event-stream`)": (
        f"curl -sN localhost:8000/batch {_JSON} -H 'Accept: application/x-ndjson' -d @batch.json"
    ),
    "Safe to repeat: the same key and body are the same job": (
        f"curl -s localhost:8000/batch {_JSON} -H 'Idempotency-Key: nightly-42' -d @batch.json"
    ),
    "With a deadline, and a webhook that is told when it has ended": (
        'curl -s "localhost:8000/jobs?deadline_s=3600&webhook_url=https://example.com/hook"'
        f" {_NDJSON} --data-binary @requests.ndjson"
    ),
    "The failed items again, as a new job": "curl -s -X POST localhost:8000/jobs/$JOB/retry",
    "One's own jobs, newest first": (
        'curl -s "localhost:8000/jobs?status=completed&limit=20" -H "Authorization: Bearer $KEY"'
    ),
    "Stop a job": "curl -s -X DELETE localhost:8000/jobs/$JOB",
}


def description() -> str:
    """In Markdown."""
    shown = (f"{what}:\n\n    {line}\n" for what, line in EXAMPLES.items())
    return "\n".join(
        ["One batch of chat requests for several LLM providers, all answers in order.\n", *shown]
    )
