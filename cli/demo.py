"""The demo: one mixed batch against the simulator, and a table of what became of it."""

import asyncio
import tempfile
from pathlib import Path
from statistics import median

import httpx
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.deployment import Deployment
from shared.models import BatchLLMRequest, Job, LLMRequest, LLMResponse, Message, Role
from shared.providers import PROVIDERS
from shared.settings import Settings

REQUESTS = 100
SIMULATOR = ("--config", '{"latency_ms": 150, "latency_spread_ms": 100, "retry_after": "0.5"}')
POLL_S = 0.05
LIMIT = 10
# Whatever is set for real work: the demo is to show the same everywhere.
ENVIRONMENT = {
    "LOG_LEVEL": "ERROR",
    "API_KEYS": "",
    "RESULT_TTL_SECONDS": "600",
    "MAX_RETRIES": "3",
    "MAX_CONCURRENT_REQUESTS": str(LIMIT),
    **{f"{provider.upper()}_MAX_CONCURRENT_REQUESTS": "" for provider in PROVIDERS},
}


def demo_batch() -> BatchLLMRequest:
    """Both providers by turns; three requests meet a 429 first, one asks for a missing model."""
    special = {20: "sim-429x1", 45: "sim-404", 50: "sim-429x1", 70: "sim-429x1"}
    models = {"openrouter": "google/gemma-3-27b-it:free", "ollama": "deepseek-r1:8b"}
    providers = list(models)
    return BatchLLMRequest(
        requests=[
            LLMRequest(
                provider=(provider := providers[index % len(providers)]),
                model=special.get(index, models[provider]),
                messages=[Message(role=Role.USER, content=f"Question {index + 1}")],
                request_id=f"demo-{index + 1}",
            )
            for index in range(REQUESTS)
        ]
    )


async def run_demo(settings: Settings, console: Console, *, workers: int) -> bool:
    """True if every request ended as it should. Raises StartError, EmbeddedServerError."""
    with tempfile.TemporaryDirectory(prefix="orchestrator-demo-") as directory:
        deployment = Deployment(
            settings,
            workers=workers,
            data_dir=Path(directory),
            simulator=SIMULATOR,
            environment=ENVIRONMENT,
        )
        with console.status("starting Valkey, the API, the workers and the provider simulator"):
            await deployment.__aenter__()
        try:
            console.print(f"{workers} workers behind {deployment.url}, providers simulated")
            async with httpx.AsyncClient(base_url=deployment.url, timeout=30) as client:
                job = await _follow(client, demo_batch(), console)
        finally:
            with console.status("stopping"):
                await deployment.__aexit__(None, None, None)
    _print_result(console, job)
    return job.failed == 1


async def _follow(client: httpx.AsyncClient, batch: BatchLLMRequest, console: Console) -> Job:
    answer = await client.post("/batch?mode=async", json=batch.model_dump(mode="json"))
    answer.raise_for_status()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("batch of 100", total=REQUESTS)
        while True:
            reply = await client.get(answer.headers["Location"])
            job = Job.model_validate_json(reply.raise_for_status().content)
            progress.update(bar, completed=job.successful + job.failed)
            if job.finished_at:
                return job
            await asyncio.sleep(POLL_S)


def _print_result(console: Console, job: Job) -> None:
    responses = [response for response in job.responses or () if response is not None]
    for table in (_sample(responses), _summary(responses)):
        console.print()
        console.print(table)
    console.print()
    wall_s = (job.total_latency_ms or 0) / 1000
    calls_s = max(
        sum(r.latency_ms for r in group) / 1000 / LIMIT
        for group in _by_provider(responses).values()
    )
    console.print(
        f"{job.total_requests} requests in {wall_s:.2f} s: {job.successful} answered, "
        f"{job.failed} failed (the model that does not exist)"
    )
    console.print(f"where time went: {calls_s:.2f} s in calls ({LIMIT} at a time per provider),")
    console.print(f"{wall_s - calls_s:21.2f} s in pauses after 429s and the queue")


def _sample(responses: list[LLMResponse]) -> Table:
    """The first of each provider, and every one that was retried or failed."""
    first = {response.provider: index for index, response in reversed(list(enumerate(responses)))}
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("request", min_width=8)
    table.add_column("model", no_wrap=True, max_width=20)
    table.add_column("calls")
    table.add_column("queued", min_width=7)
    table.add_column("call", min_width=6)
    table.add_column("answer", min_width=17)
    for index, response in enumerate(responses):
        if index in first.values() or response.attempts > 1 or response.error:
            table.add_row(
                response.request_id,
                f"{response.provider}: {response.model}",
                str(response.attempts),
                f"{response.queued_ms:.0f} ms",
                f"{response.latency_ms:.0f} ms",
                f"[red]{response.error_code}[/]" if response.error else escape(response.content),
            )
    return table


def _summary(responses: list[LLMResponse]) -> Table:
    columns = ("provider", "requests", "answered", "calls", "tokens", "call p50", "queued p50")
    table = Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for provider, group in _by_provider(responses).items():
        table.add_row(
            provider,
            str(len(group)),
            str(sum(response.error is None for response in group)),
            str(sum(response.attempts for response in group)),
            str(sum(response.total_tokens for response in group)),
            f"{median(response.latency_ms for response in group):.0f} ms",
            f"{median(response.queued_ms for response in group):.0f} ms",
        )
    return table


def _by_provider(responses: list[LLMResponse]) -> dict[str, list[LLMResponse]]:
    groups: dict[str, list[LLMResponse]] = {}
    for response in responses:
        groups.setdefault(response.provider, []).append(response)
    return groups
