"""Prints the progress of a job, and the causes of its failures."""

import sys
from collections import Counter

from rich.console import Console

from cli.console import out
from orchestrator_client import JobItem, JobSummary

FAILURES_READ = 1000  # maximum number of failures that are read, to count their causes
CAUSES_SHOWN = 5


def print_summary(job: JobSummary, console: Console) -> None:
    answered = f"{job.successful:,} of {job.total_requests:,} answered"
    if job.finished_at is None:
        console.print(
            f"{job.status}: {answered}, {job.failed:,} failed, {job.queued:,} waiting,"
            f" {job.running:,} running"
        )
        return
    after = "in" if job.status == "completed" else "after"
    took = "" if job.total_latency_ms is None else f" {after} {job.total_latency_ms / 1000:,.1f} s"
    # A cancelled job counts its cancelled items as failed.
    failed = "failed or cancelled" if job.status == "cancelled" else "failed"
    console.print(
        f"{job.status.replace('_', ' ')}{took}: {answered}, {job.failed:,} {failed}", markup=False
    )
    if job.failed:
        console.print(f"Retry the {failed} requests: orchestrator retry {job.job_id}")


def print_causes(failures: list[JobItem]) -> None:
    """Counts the causes of the failures, and prints the most frequent ones with an example."""

    def cause(item: JobItem) -> tuple[str, str, str | None]:
        return item.provider, item.model, item.error_code

    examples = {cause(item): item.error for item in failures}
    is_limited = len(failures) == FAILURES_READ
    what = f"of the first {FAILURES_READ:,} failures" if is_limited else "failed"
    for key, count in Counter(map(cause, failures)).most_common(CAUSES_SHOWN):
        provider, model, code = key
        out.print(
            f"{count:,} {what}: {provider}/{model}, {code} (for example: {examples[key]})",
            markup=False,
        )


def print_json(job: JobSummary) -> None:
    sys.stdout.write(job.model_dump_json(exclude={"responses"}) + "\n")
