"""Contains commands that show the main features. `/docs` shows them, and a test runs them.

The documents in docs/ contain each command, too.
"""

_JSON = "-H 'Content-Type: application/json'"
_NDJSON = "-H 'Content-Type: application/x-ndjson'"

# Title → command.
EXAMPLES = {
    "Submit a job of any size, one request per line": (
        f"curl -s localhost:8000/jobs {_NDJSON} --data-binary @requests.ndjson"
    ),
    "Get the status of the job": "curl -s localhost:8000/jobs/$JOB",
    "Stream the results, one per line, until all requests have finished": (
        "curl -sN localhost:8000/jobs/$JOB/results"
    ),
    "Stream only failed results; `after` is the `cursor` of the last line that you have read": (
        'curl -sN "localhost:8000/jobs/$JOB/results?order=completion&status=failed&after=0"'
    ),
    "Stream server-sent events; after a lost connection, `Last-Event-ID` continues the stream": (
        "curl -sN localhost:8000/jobs/$JOB/events -H 'Last-Event-ID: 0'"
    ),
    "Run a batch and stream each result as soon as it is available (or `text/event-stream`)": (
        f"curl -sN localhost:8000/batch {_JSON} -H 'Accept: application/x-ndjson' -d @batch.json"
    ),
    "Make a submission safe to repeat: the same key, requests and options return the same job": (
        f"curl -s localhost:8000/batch {_JSON} -H 'Idempotency-Key: nightly-42' -d @batch.json"
    ),
    "Set a deadline, and a webhook that is called when the job has ended": (
        'curl -s "localhost:8000/jobs?deadline_s=3600&webhook_url=https://example.com/hook"'
        f" {_NDJSON} --data-binary @requests.ndjson"
    ),
    "Run the failed requests again, as a new job": "curl -s -X POST localhost:8000/jobs/$JOB/retry",
    "List your completed jobs, newest first": (
        'curl -s "localhost:8000/jobs?status=completed&limit=20" -H "Authorization: Bearer $KEY"'
    ),
    "Cancel a job": "curl -s -X DELETE localhost:8000/jobs/$JOB",
}


def description() -> str:
    shown = (f"{title}:\n\n    {command}\n" for title, command in EXAMPLES.items())
    return "\n".join(
        [
            "Run thousands of LLM requests across providers; get every answer back, in order.\n",
            *shown,
        ]
    )
