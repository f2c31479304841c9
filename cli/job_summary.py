"""Prints the progress of a job, and the causes of its failures."""

from collections import Counter

from rich.console import Console

from cli.console import write_line
from orchestrator_client import JobItem, JobSummary

FAILURES_READ = 1000  # maximum number of failures that are read, to count their causes
CAUSES_SHOWN = 5
CANCELLED = "cancelled"


def print_summary(job: JobSummary, console: Console) -> None:
    answered = f"{job.successful:,} of {job.total_requests:,} answered"
    if job.finished_at is None:
        console.print(
            f"{job.status}: {answered}, {job.failed:,} failed, {job.queued:,} waiting,"
            f" {job.running:,} running",
            markup=False,
        )
        return
    after = "in" if job.status == "completed" else "after"
    took = "" if job.total_latency_ms is None else f" {after} {job.total_latency_ms / 1000:,.1f} s"
    counts = {"failed": job.failed - job.cancelled, CANCELLED: job.cancelled}
    if not job.cancelled:
        del counts[CANCELLED]
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    console.print(f"{job.status.replace('_', ' ')}{took}: {answered}, {listed}", markup=False)
    if job.failed:
        what = " and ".join(name for name, count in counts.items() if count)
        console.print(f"Retry the {what} requests: orchestrator retry {job.job_id}", markup=False)


def print_causes(failures: list[JobItem], console: Console, shown: int = CAUSES_SHOWN) -> None:
    """Counts the causes of the failures, and prints the most frequent causes with an example.

    Leaves out requests that failed only because their job was cancelled.
    """

    def cause(item: JobItem) -> tuple[str, str, str | None]:
        return item.provider, item.model, item.error_code

    is_limited = len(failures) == FAILURES_READ
    failures = [item for item in failures if item.error_code != CANCELLED]
    examples = {cause(item): item.error for item in failures}
    what = f"of the first {FAILURES_READ:,} failures" if is_limited else "failed"
    for key, count in Counter(map(cause, failures)).most_common(shown):
        provider, model, code = key
        console.print(
            f"{count:,} {what}: {provider}/{model}, {code} (for example: {examples[key]})",
            markup=False,
        )


def print_json(job: JobSummary) -> None:
    write_line(job.model_dump_json(exclude={"responses"}).encode())
