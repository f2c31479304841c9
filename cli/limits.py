"""Defines the commands that show and set limits while work runs.

The commands connect to Redis, not to the API.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Annotated

import orjson
import typer
from redis.asyncio import Redis
from rich.markup import escape
from rich.table import Table

from cli.command import Command, Group, epilog
from cli.command_runner import WRONG_ARGUMENTS, fail
from cli.console import err, out, write_line
from cli.options import AsJson
from cli.redis_command import CODES, run_with_redis, say_empty
from cli.tables import table
from shared.monitoring.limits import NamedLimits, Values, read_limits
from shared.queue.operator_commands import Operator
from shared.queue.redis_keys import Keys

MAX_RATE = 10**12
MAX_FOR_S = 366 * 86_400
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of a provider, or of one of its models: PROVIDER/MODEL."
    ),
]

app = typer.Typer(cls=Group)


def _rate(help_: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(min=1, max=MAX_RATE, metavar="N", help=help_)
    return option


@app.callback(
    invoke_without_command=True,
    epilog=epilog("orchestrator limits", "orchestrator limits set --help", codes=CODES),
)
def limits(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the limits of providers and models: where each limit comes from, and which limits are in
    force.

    The command connects to Redis: to REDIS_URL, or to the Valkey of a running `orchestrator up`."""
    if context.invoked_subcommand is not None:
        return
    found, keys = run_with_redis(_read)
    if as_json:
        for one in found:
            write_line(orjson.dumps(one.to_dict()))
        return
    if not found:
        say_empty(keys)
        return
    shown = [one for one in found if _is_shown(one)]
    out.print(_table(shown))
    if len(shown) < len(found):
        out.print(
            f"{len(found) - len(shown)} more providers have only a limit of running calls:"
            " --json shows all"
        )
    for one in found:
        if len(one.configured) > 1:
            err.print(_disagreement(one), markup=False)


@app.command(
    cls=Command,
    name="set",
    epilog=epilog(
        "orchestrator limits set openai/gpt-5-mini --concurrency 50 --rpm 500",
        "orchestrator limits set openai --concurrency 3 --for 2h",
        codes=CODES,
    ),
)
def set_limits(
    name: Name,
    *,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, metavar="N", help="Limit of calls that run at once."),
    ] = None,
    rpm: Annotated[int | None, _rate("Limit of requests a minute.")] = None,
    tpm: Annotated[int | None, _rate("Limit of tokens a minute.")] = None,
    rpd: Annotated[int | None, _rate("Limit of requests a day.")] = None,
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="Time after which all limits that were set for NAME end, such as 30m, 2h or 1d."
            " Default: never.",
        ),
    ] = None,
) -> None:
    """Set limits while work runs, for all workers at the same moment.

    These limits replace the limits of the workers' settings, even after restarts, until the time of
    --for is over or `orchestrator limits unset` removes them. Other limits that were set for NAME
    stay."""
    given = {"concurrency": concurrency, "rpm": rpm, "tpm": tpm, "rpd": rpd}
    values = {limit: value for limit, value in given.items() if value is not None}
    if not values:
        fail("nothing to set: give --concurrency, --rpm, --tpm or --rpd", WRONG_ARGUMENTS)
    for_s = None if for_ is None else _seconds(for_)
    key = name.lower()

    async def work(redis: Redis, keys: Keys) -> list[NamedLimits]:
        known = await read_limits(redis, keys)
        _check(name, [one.name for one in known])
        await Operator(redis, keys).set_limits(key, values, for_s)
        return await read_limits(redis, keys)

    found = next(one for one in run_with_redis(work) if one.name == key)
    out.print(f"{key}: {_text(found.set)}{_until(found)}", markup=False)


@app.command(cls=Command, epilog=epilog("orchestrator limits unset openai/gpt-5-mini", codes=CODES))
def unset(name: Name) -> None:
    """Remove the limits that were set for a provider or a model, so that the limits of the settings
    apply again."""
    key = name.lower()

    async def work(redis: Redis, keys: Keys) -> tuple[bool, list[NamedLimits]]:
        known = await read_limits(redis, keys)
        return await Operator(redis, keys).unset_limits(key), known

    removed, known = run_with_redis(work)
    if not removed:
        names = [one.name for one in known if one.set]
        hint = f"limits are set for: {', '.join(names)}" if names else "no limits are set"
        fail(f"no limits are set for {name}; {hint}", WRONG_ARGUMENTS)
    out.print(f"{key}: the limits of the settings apply again", markup=False)


async def _read(redis: Redis, keys: Keys) -> tuple[list[NamedLimits], Keys]:
    return await read_limits(redis, keys), keys


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _UNITS_S[found[2]] if found else 0
    if not 0 < seconds <= MAX_FOR_S:
        fail(
            "--for must be a time of up to 366 days, such as 90s, 30m, 2h or 1d",
            WRONG_ARGUMENTS,
        )
    return seconds


def _check(name: str, known: Sequence[str]) -> None:
    providers = [one for one in known if "/" not in one]
    lane, slash, model = name.lower().partition("/")
    if not providers:
        fail("no worker has reported its providers yet: start a worker", WRONG_ARGUMENTS)
    if slash and not (lane and model):
        fail(f"{name!r} must be PROVIDER or PROVIDER/MODEL", WRONG_ARGUMENTS)
    if lane in providers:
        if set(model) & set("*?") and name.lower() not in known:
            fail(
                f"{name!r} is a pattern that no worker has in its PROVIDERS_FILE: name one model",
                WRONG_ARGUMENTS,
            )
        return
    nearest = get_close_matches(lane[:100], providers, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else "see `orchestrator limits`."
    fail(
        f"no provider of a worker is named {lane!r}; {hint} An alias has no limits of its own: set"
        " the limits of its providers.",
        WRONG_ARGUMENTS,
    )


def _is_shown(limits: NamedLimits) -> bool:
    """Returns whether the table shows these limits.

    Leaves out a provider for which only a limit of running calls is configured.
    """
    is_plain = (
        "/" not in limits.name
        and len(limits.configured) == 1
        and limits.configured[0][0].keys() == {"concurrency"}
    )
    return not is_plain or bool(limits.set or limits.announced or limits.adapted)


def _table(found: Iterable[NamedLimits]) -> Table:
    rows = table("name", "in force", "set", "configured", "announced", "adapted")
    for one in found:
        configured = " or ".join(_text(values) for values, _ in one.configured)
        adapted = "" if one.adapted is None else f"{one.adapted:,} calls"
        cells = (one.name, _text(one.in_force), _text(one.set) + _until(one), configured)
        rows.add_row(*map(escape, (*cells, _text(one.announced), adapted)))
    return rows


def _text(values: Values) -> str:
    return ", ".join(
        f"{value:,} {'calls' if limit == 'concurrency' else limit}"
        for limit, value in values.items()
    )


def _until(limits: NamedLimits) -> str:
    return f" until {limits.set_until:%Y-%m-%d %H:%M:%S} UTC" if limits.set_until else ""


def _disagreement(limits: NamedLimits) -> str:
    sides = "; ".join(
        f"{_text(values) or 'none'} ({', '.join(workers)})" for values, workers in limits.configured
    )
    return (
        f"{limits.name}: the workers have different limits: {sides}. Give all workers the same"
        " settings and the same PROVIDERS_FILE, and restart them."
    )
