"""Defines the commands about providers: which are configured, and whether they work."""

import asyncio
from collections.abc import Mapping
from typing import Annotated

import typer

from cli.base_url_check import refusal, running_api
from cli.command import Command, Group, epilog
from cli.command_runner import fail
from cli.console import err, out
from cli.provider_check import check as check_provider
from cli.provider_probe import Probe, probe_all
from cli.tables import table
from shared.providers import variable
from shared.providers.routing import unknown_provider_message
from shared.settings import SettingsError, load_settings, variables
from shared.settings.providers import Providers, load_providers
from worker.providers.endpoint import endpoint

_LISTS = {
    0: "all configured providers work",
    1: "a configured provider does not work, or the settings are wrong",
}
_CHECKS = {
    0: "the provider answered",
    1: "the provider did not answer, or its settings are wrong",
    2: "wrong arguments",
}

app = typer.Typer(cls=Group)


@app.callback(
    invoke_without_command=True,
    epilog=epilog("orchestrator providers", "orchestrator providers check --help", codes=_LISTS),
)
def providers(context: typer.Context) -> None:
    """Show which providers are configured, where their settings are, and whether they work."""
    if context.invoked_subcommand is None:
        known = _load()
        probes = asyncio.run(_probe(known))
        _print(known, {probe.provider: probe for probe in probes})
        if not all(probe.is_good for probe in probes):
            raise typer.Exit(1)


@app.command(
    cls=Command,
    epilog=epilog("orchestrator providers check openai --model gpt-5-mini", codes=_CHECKS),
)
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the provider.")],
    model: Annotated[str, typer.Option(metavar="MODEL", help="Model that gets the call.")],
) -> None:
    """Make one small call to a provider. Show the call and the response, without the key."""
    known = _load()
    row = known.catalogue.rows.get(name)
    if row is None:
        fail(unknown_provider_message(known.catalogue, name))
    if reason := known.missing().get(name):
        fail(reason)
    if asyncio.run(running_api([row])):
        fail(refusal(row))
    timeout_s = load_settings().request_timeout
    target = endpoint(row, known.settings[name], timeout_s=timeout_s)
    lines, is_answered = asyncio.run(check_provider(target, row.model_name(model)))
    for line in lines:
        out.print(line, markup=False)
    if not is_answered:
        raise typer.Exit(1)


async def _probe(known: Providers) -> list[Probe]:
    names = known.catalogue.configured
    api = await running_api(known.catalogue.rows[name] for name in names)
    return await probe_all(known, names, api)


def _load() -> Providers:
    try:
        return load_providers(load_settings())
    except SettingsError as error:
        fail(f"wrong settings\n{error}")


def _print(known: Providers, probes: Mapping[str, Probe]) -> None:
    rows = table("provider", "from", "key", "state")
    for name in known.catalogue.rows:
        if name in probes:
            rows.add_row(name, _source(known, name), _key(known, name), str(probes[name].health))
    out.print(rows)
    out.print()
    for probe in probes.values():
        out.print(f"{probe.provider}: {probe.detail}", markup=False)
    others = [name for name in known.catalogue.rows if name not in probes]
    if others:
        err.print(f"not configured: {', '.join(others)}", markup=False)


def _source(known: Providers, name: str) -> str:
    if known.settings[name].base_url:
        return variable(name, "base_url")
    return "providers.toml" if "base_url" in known.file.given.get(name, ()) else "built in"


def _key(known: Providers, name: str) -> str:
    """Returns the variable of the first key and the number of further keys as text, or "none"."""
    keys = known.settings[name].keys
    if not keys:
        return "none"
    given = variables()
    names = known.catalogue.rows[name].variables_of_key(min(keys))
    first = next(name for name in names if (given.get(name.lower()) or "").strip())
    return first if len(keys) == 1 else f"{first} and {len(keys) - 1} more"
