"""Defines the `orchestrator` command."""

import asyncio
import hashlib
import os
import secrets
import signal
import sys
from functools import partial
from typing import Annotated

import typer

from cli.base_url_check import Address
from cli.command import FOLLOWS, STARTS, Command, Group, epilog
from cli.command_runner import fail
from cli.console import SafeConsole, err, use_utf8
from cli.demo import run_demo
from cli.jobs import add_to
from cli.lanes import app as lanes_commands
from cli.limits import app as limits_commands
from cli.local_stack import LocalStack, StartError
from cli.provider_probe import Probe, ProviderHealth, probe_all
from cli.providers import app as providers_commands
from orchestrator_client import OrchestratorError
from shared.loopback import is_loopback
from shared.redis.embedded import EmbeddedServerError
from shared.setting_checks import OWNER
from shared.settings import Settings, SettingsError, load_settings
from shared.settings.providers import Providers, load_providers
from shared.settings.unknown_settings import unknown_settings
from shared.version import VERSION

RUN = "Run the service"  # panel of the help

_KEYLESS = (
    "API_KEYS is not set, so requests from other machines are refused. Set API_KEYS (see"
    " `orchestrator keys create`), or ALLOW_KEYLESS=true to serve everybody."
)

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=epilog(
        "orchestrator up",
        "orchestrator submit prompts.txt --provider ollama --model llama3.2:3b",
        "orchestrator submit --help",
        codes=FOLLOWS,
    ),
)
keys = typer.Typer(cls=Group, help="Create API keys.", no_args_is_help=True)
app.add_typer(keys, name="keys", rich_help_panel=RUN)
app.add_typer(providers_commands, name="providers", rich_help_panel=RUN)
app.add_typer(lanes_commands, name="lanes", rich_help_panel=RUN)
app.add_typer(limits_commands, name="limits", rich_help_panel=RUN)
add_to(app)
console = SafeConsole(highlight=False)


def _print_version(asked: bool) -> None:  # noqa: FBT001 — typer passes it by position
    if asked:
        console.print(f"orchestrator {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Run thousands of LLM requests across providers; get every answer back, in order."""


Workers = Annotated[
    int, typer.Option(min=1, max=64, metavar="N", help="Number of worker processes.")
]


@app.command(
    cls=Command,
    rich_help_panel=RUN,
    epilog=epilog(
        "orchestrator demo",
        codes={
            0: "the demo ended as intended: 99 requests answered, 1 failed",
            1: "the demo ended differently, could not start, or found wrong settings",
        },
    ),
)
def demo(workers: Workers = 2) -> None:
    """Start everything with a provider simulator, send 100 requests, and show the results."""
    if not asyncio.run(run_demo(_settings()[0], console, workers=workers)):
        raise typer.Exit(1)


@app.command(
    cls=Command,
    rich_help_panel=RUN,
    epilog=epilog(
        "orchestrator up --simulate",
        "MAX_CONCURRENT_REQUESTS=50 orchestrator up --workers 4",
        codes=STARTS,
    ),
)
def up(
    workers: Workers = 2,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address that the API listens on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Port of the API. 0 selects a free port."
        ),
    ] = 8000,
    *,
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate",
            help="Call a provider simulator instead of the providers."
            " SIMULATOR_CONFIG sets its faults and limits.",
        ),
    ] = False,
) -> None:
    """Run the API and workers until Ctrl-C, with an embedded Valkey unless REDIS_URL is set."""
    settings, providers = _settings()
    for advice in unknown_settings(os.environ, providers.catalogue.rows):
        err.print(f"warning: {advice}", markup=False)
    is_open = settings.api_keys or settings.allow_keyless
    # 0.0.0.0 and :: are every address of this machine, so other machines can connect.
    if not is_open and (host in {"0.0.0.0", "::"} or not is_loopback(host)):
        err.print(f"warning: {_KEYLESS}", markup=False, soft_wrap=True)
    stack = LocalStack(
        settings,
        providers.catalogue.rows,
        workers=workers,
        host=host,
        port=port,
        simulator=("--latency-ms", "200") if simulate else None,
        notice=partial(console.print, markup=False, soft_wrap=True),
    )
    asyncio.run(_stay_up(stack, settings, providers, (host, port), simulate=simulate))


@keys.command(
    cls=Command,
    epilog=epilog(
        "orchestrator keys create ada",
        codes={0: "success", 1: "the name cannot be used", 2: "wrong arguments"},
    ),
)
def create(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of the key, and owner of the jobs that it submits:"
            " 1 to 64 of A-Z a-z 0-9 _ . -",
        ),
    ],
) -> None:
    """Create an API key. Print the key, which is not stored, and its digest for API_KEYS."""
    if not OWNER.fullmatch(name):
        fail("the name of an API key must have 1 to 64 characters, A-Z a-z 0-9 _ . -")
    key = f"orc_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    console.print(f"API key of {name} (it will not be shown again): {key}", soft_wrap=True)
    console.print(f"Set for the API: API_KEYS={name}:{digest}", soft_wrap=True)


def main() -> None:
    use_utf8()
    try:
        app()
    except (StartError, EmbeddedServerError, OrchestratorError) as error:
        err.print(f"orchestrator: {error}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _settings() -> tuple[Settings, Providers]:
    try:
        settings = load_settings()
        return settings, load_providers(settings)
    except SettingsError as error:
        fail(f"wrong settings\n{error}")


async def _stay_up(
    stack: LocalStack, settings: Settings, providers: Providers, api: Address, *, simulate: bool
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # The providers are checked while the stack starts.
    shown = [] if simulate else _shown_providers(providers)
    probing = asyncio.create_task(probe_all(providers, shown, api))
    async with stack:
        where = "REDIS_URL" if settings.redis_url else str(settings.data_dir)
        lines = [f"API         {stack.url}   (docs at {stack.url}/docs)"]
        if settings.dashboard:
            lines.append(f"dashboard   {stack.url}/")
        lines.append(f"data        {where}")
        if simulate:
            lines.append(f"providers   simulated at {stack.simulator_url}")
        lines += [f"{probe.provider:<12}{_state(probe)}" for probe in await probing]
        # The lines are written together, because the parts write their logs to the same terminal.
        console.print("\n".join([*lines, "stop with Ctrl-C"]), markup=False, soft_wrap=True)
        await stop.wait()
        console.print("stopping; waiting for running calls")


def _shown_providers(providers: Providers) -> list[str]:
    """Returns the names of the configured providers, and of openrouter and ollama.

    The examples in the documentation use openrouter and ollama.
    """
    shown = {"openrouter", "ollama"} | providers.catalogue.configured
    return [name for name in providers.catalogue.rows if name in shown]


def _state(probe: Probe) -> str:
    match probe.health:
        case ProviderHealth.READY:
            return "ready"
        case ProviderHealth.UNCHECKED:
            return "ready; the key was not checked"
        case ProviderHealth.MISSING:
            return f"{probe.detail}; requests fail with provider_not_configured"
        case _:
            return f"warning: {probe.health}: {probe.detail}"
