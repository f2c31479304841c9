"""Runs the demo: sends one job to the simulated providers, and prints tables of the results."""

import tempfile
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.local_stack import LocalStack
from cli.tables import table
from orchestrator_client import AsyncClient, Job, LLMResponse
from shared.providers import PROVIDERS, variable
from shared.settings import Settings

REQUESTS = 100
SIMULATOR = ("--config", '{"latency_ms": 150, "latency_spread_ms": 100, "retry_after": "0.5"}')
LIMIT = 10  # limit of running calls at each provider
# These values override the user's settings, so that the demo shows the same results everywhere.
ENVIRONMENT = {
    "LOG_LEVEL": "ERROR",
    "API_KEYS": "",
    "RESULT_TTL_SECONDS": "600",
    "MAX_RETRIES": "3",
    "MAX_CONCURRENT_REQUESTS": str(LIMIT),
    **{variable(provider, "max_concurrent_requests"): "" for provider in PROVIDERS},
    "PROVIDERS_FILE": "",
    "DEFAULT_PROVIDER": "",
}


def demo_requests() -> list[dict[str, Any]]:
    """Returns requests that go alternately to openrouter and ollama.

    Three requests get a 429 at their first attempt. One request names a model that does not exist.
    """
    special = {20: "sim-429x1", 45: "sim-404", 50: "sim-429x1", 70: "sim-429x1"}
    models = {"openrouter": "google/gemma-3-27b-it:free", "ollama": "deepseek-r1:8b"}
    providers = list(models)
    return [
        {
            "provider": (provider := providers[index % len(providers)]),
            "model": special.get(index, models[provider]),
            "messages": [{"role": "user", "content": f"Question {index + 1}"}],
            "request_id": f"demo-{index + 1}",
        }
        for index in range(REQUESTS)
    ]


async def run_demo(settings: Settings, console: Console, *, workers: int) -> bool:
    """Runs the demo, and returns whether exactly one request failed, as expected.

    Raises StartError, EmbeddedServerError or OrchestratorError.
    """
    async with AsyncExitStack() as exits:
        directory = exits.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-demo-"))
        stack = LocalStack(
            settings,
            PROVIDERS,
            workers=workers,
            data_dir=Path(directory),
            simulator=SIMULATOR,
            environment=ENVIRONMENT,
        )
        with console.status("starting Valkey, the API, the workers and the provider simulator"):
            await exits.enter_async_context(stack)
        console.print(
            f"The API is ready at {stack.url}, with {workers} workers and simulated providers"
        )
        async with AsyncClient(stack.url) as client:
            job = await _run_job(client, console)
        with console.status("stopping"):
            await exits.aclose()
    _print_result(console, job)
    return job.failed == 1


async def _run_job(client: AsyncClient, console: Console) -> Job:
    # With REDIS_URL, Redis may still hold the job of an earlier demo.
    job = await client.submit(demo_requests(), new=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("100 requests", total=REQUESTS)
        async with aclosing(client.results(job.job_id, order="completion")) as items:
            async for _ in items:
                progress.advance(bar)
    return await client.status(job.job_id)


def _print_result(console: Console, job: Job) -> None:
    responses = [response for response in job.responses or () if response is not None]
    for rows in (_sample(responses), _summary(responses)):
        console.print()
        console.print(rows)
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
    console.print(f"{wall_s - calls_s:21.2f} s in the queue and in pauses after 429s")


def _sample(responses: list[LLMResponse]) -> Table:
    """Returns a table of the first result of each provider and all retried or failed results."""
    first = {response.provider: index for index, response in reversed(list(enumerate(responses)))}
    rows = table()
    rows.add_column("request", min_width=8)
    rows.add_column("model", no_wrap=True, max_width=20)
    rows.add_column("calls")
    rows.add_column("queued", min_width=7)
    rows.add_column("call", min_width=6)
    rows.add_column("answer", min_width=17)
    for index, response in enumerate(responses):
        if index in first.values() or response.attempts > 1 or response.error:
            rows.add_row(
                response.request_id,
                f"{response.provider}: {response.model}",
                str(response.attempts),
                f"{response.queued_ms:.0f} ms",
                f"{response.latency_ms:.0f} ms",
                f"[red]{response.error_code}[/]" if response.error else escape(response.content),
            )
    return rows


def _summary(responses: list[LLMResponse]) -> Table:
    columns = ("provider", "requests", "answered", "calls", "tokens", "call p50", "queued p50")
    rows = table(*columns)
    for provider, group in _by_provider(responses).items():
        rows.add_row(
            provider,
            str(len(group)),
            str(sum(response.error is None for response in group)),
            str(sum(response.attempts for response in group)),
            str(sum(response.total_tokens for response in group)),
            f"{median(response.latency_ms for response in group):.0f} ms",
            f"{median(response.queued_ms for response in group):.0f} ms",
        )
    return rows


def _by_provider(responses: list[LLMResponse]) -> dict[str, list[LLMResponse]]:
    groups: dict[str, list[LLMResponse]] = {}
    for response in responses:
        groups.setdefault(response.provider, []).append(response)
    return groups
