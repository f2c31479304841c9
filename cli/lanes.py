"""Defines the commands that show the lanes and end their pauses.

The commands connect to Redis, not to the API.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated

import typer
from redis.asyncio import Redis
from rich.markup import escape
from rich.table import Table

from cli.command import Command, Group, epilog
from cli.command_runner import WRONG_ARGUMENTS, fail
from cli.console import err, out, write_line
from cli.deployment_state import first_of, lane_state, state_of
from cli.options import AsJson
from cli.redis_command import CODES, run_with_redis, say_empty
from cli.tables import table
from orchestrator_client import Overview
from shared.monitoring.account_state import account_of
from shared.monitoring.monitor import Monitor
from shared.providers import WEBHOOK_LANE
from shared.queue.operator_commands import Operator
from shared.queue.redis_keys import Keys

NAMES_SHOWN = 20

app = typer.Typer(cls=Group)


@app.callback(
    invoke_without_command=True,
    epilog=epilog("orchestrator lanes", "orchestrator lanes resume --help", codes=CODES),
)
def lanes(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the lanes, and which providers or models are paused or do not work.

    The command connects to Redis: to REDIS_URL, or to the Valkey of a running `orchestrator up`."""
    if context.invoked_subcommand is not None:
        return
    overview, keys = run_with_redis(_overview)
    if as_json:
        for lane in overview.lanes:
            write_line(lane.model_dump_json().encode())
        return
    out.print(_table(overview))
    if not overview.workers and {lane.name for lane in overview.lanes} <= {WEBHOOK_LANE}:
        say_empty(keys)


@app.command(
    cls=Command,
    epilog=epilog(
        "orchestrator lanes resume openai",
        "orchestrator lanes resume openai/gpt-5-mini",
        codes=CODES,
    ),
)
def resume(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of a provider, or of one of its models: PROVIDER/MODEL."
        ),
    ],
) -> None:
    """End the pauses of a provider or of a model, and make the next call now.

    A provider that does not work gets one call at a time, as before, until it answers."""
    lane, slash, model = name.lower().partition("/")
    lane = lane.removesuffix("#1")  # the lane of the first key has no number
    asked = model if slash else None

    async def work(redis: Redis, keys: Keys) -> tuple[list[str], Overview]:
        resumed = await Operator(redis, keys).resume(lane, asked)
        return resumed, (await _overview(redis, keys))[0]

    resumed, overview = run_with_redis(work)
    account = next((account_of(one) for one in overview.lanes if one.name == lane), None)
    hint = ""
    if account and asked:
        hint = (
            f"{lane} as a whole is {state_of(account, overview.at)}."
            f" To call it now: orchestrator lanes resume {lane}"
        )
    if not resumed:
        _fail_or_say_healthy(name, overview, hint)
    for one in resumed[:NAMES_SHOWN]:
        out.print(f"{one}: the next call is made now", markup=False)
    if len(resumed) > NAMES_SHOWN:
        out.print(f"and {len(resumed) - NAMES_SHOWN} more")
    if resumed and hint:
        err.print(hint, markup=False)


def _fail_or_say_healthy(name: str, overview: Overview, hint: str) -> None:
    if hint:
        fail(f"{name} has no pause of its own. {hint}", WRONG_ARGUMENTS)
    if name.lower() not in (known := _names(overview)):
        fail(_unknown(name, known), WRONG_ARGUMENTS)
    paused = next((lane for lane in overview.lanes if lane.name == name.lower()), None)
    if paused and paused.paused_until and not paused.deployments:
        provider = (paused.paused_because or "").partition(" ")[0]
        fail(
            f"{name} is an alias, and has no pause of its own: resume what serves it, such as"
            f" `orchestrator lanes resume {provider}`",
            WRONG_ARGUMENTS,
        )
    out.print(f"{name} is healthy: there is nothing to resume.", markup=False)


async def _overview(redis: Redis, keys: Keys) -> tuple[Overview, Keys]:
    overview = await Monitor(redis, keys).overview()
    return Overview.model_validate(overview.model_dump()), keys


def _table(overview: Overview) -> Table:
    rows = table("lane", "running", "queued", "retrying", "state")
    for lane in overview.lanes:
        account = account_of(lane)
        limit = "?" if lane.limit is None else f"{lane.limit:,}"
        running = f"{lane.in_flight:,} of {limit}"
        counts = (running, f"{lane.queued:,}", f"{lane.deferred:,}")
        rows.add_row(escape(lane.name), *counts, escape(lane_state(lane, overview.at)))
        shown, more = first_of(lane)
        for one in (one for one in shown if one is not account):
            rows.add_row(escape(f"  {one.name}"), "", "", "", escape(state_of(one, overview.at)))
        if more:
            rows.add_row(f"  {more}")
    return rows


def _names(overview: Overview) -> list[str]:
    """Returns the names that `resume` accepts although there is nothing to resume."""
    found = [lane.name for lane in overview.lanes]
    for lane in overview.lanes:
        found += [one.name for one in lane.deployments]
        found += [f"{lane.name}/{model.model.lower()}" for model in lane.models if model.model]
    return list(dict.fromkeys(found))


def _unknown(name: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(name.lower()[:100], known, n=3, cutoff=0.5)
    lanes = [one for one in known if "/" not in one and one != WEBHOOK_LANE]
    if nearest:
        hint = f"did you mean {' or '.join(nearest)}?"
    else:
        hint = f"the lanes are: {', '.join(lanes) or 'none'}."
    return (
        f"no lane, and no model that is paused or was called in the last minute, is named"
        f" {name!r}; {hint}"
    )
