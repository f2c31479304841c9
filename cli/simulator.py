"""A fake LLM provider for tests, demos, fault tests and benchmarks; speaks OpenRouter and Ollama.

The last message comes back as `echo: …`. What goes wrong is set by a `Behaviour` (rates) or by the
model's name (`sim-status-400`, `sim-hang`, `sim-429x2`; see `parse_model`). Every call is counted
under its item, the hash of the last message.

    POST …/chat/completions, POST /api/chat
    GET /_sim/{stats,ledger,last,config}, POST /_sim/reset, PUT /_sim/config
"""

import argparse
import asyncio
import dataclasses
import math
import random
import re
import signal
import time
from collections import Counter, deque
from functools import lru_cache, partial
from typing import Annotated, Any, Self

import orjson
import uvloop
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass as validated_dataclass

from cli.simulator_http import (
    DIALECTS,
    Chat,
    Connection,
    Dialect,
    Exchange,
    Fault,
    Outcome,
    Plan,
    parse_chat,
    reply_error,
    respond,
)

_LEDGER_CALLS = 200_000
_P95_SIGMAS = 1.6448536  # the standard normal's 95th percentile

Rate = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@validated_dataclass(
    frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True)
)
class Behaviour:
    """How the provider acts. A dialect's own behaviour in `by_dialect` stands in for the whole.

    Calls over `limit` get an immediate 429 and are never in flight; the limit counts all calls,
    that of a dialect's own behaviour only the dialect's. `retry_after` goes on 429 and 503.
    """

    latency_ms: Milliseconds = 0
    latency_spread_ms: Milliseconds = 0
    latency_p95_ms: Milliseconds | None = None
    rate_429: Rate = 0
    rate_500: Rate = 0
    rate_503: Rate = 0
    rate_hang: Rate = 0
    rate_drop: Rate = 0
    rate_half: Rate = 0
    rate_garbage: Rate = 0
    rate_html: Rate = 0
    rate_huge: Rate = 0
    rate_drip: Rate = 0
    rate_error_object: Rate = 0
    retry_after: Annotated[str, Field(pattern=r"^[\x20-\x7e]+$")] | None = None
    limit: Annotated[int, Field(ge=0)] | None = None
    expect_key: str | None = None
    seed: int = 0
    ledger: bool = True
    by_dialect: "dict[Dialect, Behaviour]" = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.latency_p95_ms is not None and (
            self.latency_spread_ms or not 0 < self.latency_ms < self.latency_p95_ms
        ):
            raise ValueError("latency_p95_ms needs a smaller latency_ms above 0, and no spread")
        if sum(share for share, _ in fault_shares(self)) > 1 + 1e-9:
            raise ValueError("the rate_… fields add up to more than 1")
        if any(own.by_dialect for own in self.by_dialect.values()):
            raise ValueError("by_dialect cannot be nested")
        return self


_DIRECTIVE = re.compile(
    r"(?<![a-z0-9])(?:"
    r"error-object-(?P<code>\d{3})|latency-(?P<latency_ms>\d{1,7})|"
    r"(?:status-)?(?P<status>[345]\d\d)(?:x(?P<first>\d{1,6}))?|"
    r"(?P<plain>hang|drop|half|garbage|html|huge|drip|empty-choices|null-content|no-usage)"
    r")(?![a-z0-9])"
)


@lru_cache(maxsize=1024)
def parse_model(model: str) -> Plan | None:
    """The plan in the model's name, e.g. `x/sim-latency-250-429x2`; None if there is none."""
    plan: Plan | None = None
    for found in _DIRECTIVE.finditer(model.partition("sim-")[2]):
        plan = plan or Plan()
        match found.groupdict():
            case {"status": str(status), "first": first}:
                times = int(first) if first else None
                plan = dataclasses.replace(
                    plan, fault=Fault.STATUS, status=int(status), first=times
                )
            case {"code": str(code)}:
                plan = dataclasses.replace(plan, fault=Fault.ERROR_OBJECT, status=int(code))
            case {"latency_ms": str(latency_ms)}:
                plan = dataclasses.replace(plan, latency_ms=float(latency_ms))
            case {"plain": str(plain)}:
                plan = dataclasses.replace(plan, fault=Fault(plain))
    return plan


def fault_shares(behaviour: Behaviour) -> list[tuple[float, Plan]]:
    """The behaviour's faults with the share of calls that each takes."""
    plans = {str(code): Plan(Fault.STATUS, code) for code in (429, 500, 503)}
    plans |= {fault: Plan(fault) for fault in Fault}
    shares = [(getattr(behaviour, f"rate_{name}", 0.0), plan) for name, plan in plans.items()]
    half = behaviour.rate_error_object / 2
    shares += [(half, Plan(Fault.ERROR_OBJECT, code)) for code in (429, 502)]
    return [(share, plan) for share, plan in shares if share]


def draw_plan(shares: list[tuple[float, Plan]], rng: random.Random) -> Plan:
    roll = rng.random()
    for share, plan in shares:
        if roll < share:
            return plan
        roll -= share
    return Plan()


def draw_latency_ms(behaviour: Behaviour, rng: random.Random) -> float:
    """Fixed, uniform, or lognormal with `latency_ms` as the median."""
    median, spread = behaviour.latency_ms, behaviour.latency_spread_ms
    if behaviour.latency_p95_ms is not None:
        sigma = math.log(behaviour.latency_p95_ms / median) / _P95_SIGMAS
        return rng.lognormvariate(math.log(median), sigma)
    return max(0.0, rng.uniform(median - spread, median + spread)) if spread else median


def load_behaviour(document: str | bytes) -> Behaviour:
    """A `Behaviour` from JSON; ValueError naming each bad field."""
    try:
        return TypeAdapter(Behaviour).validate_json(document)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError("; ".join(faults)) from None


@dataclasses.dataclass(slots=True)
class Tally:
    total: int = 0
    in_flight: int = 0
    peak: int = 0


@dataclasses.dataclass(slots=True)
class Statistics(Tally):
    """The figures of `GET /_sim/stats`; `calls` is by item, `answers` by HTTP status."""

    aborted: int = 0
    over_limit: int = 0
    answers: Counter[str] = dataclasses.field(default_factory=Counter)
    by_dialect: dict[Dialect, Tally] = dataclasses.field(
        default_factory=lambda: {dialect: Tally() for dialect in DIALECTS}
    )
    calls: Counter[str] = dataclasses.field(default_factory=Counter)

    def reset(self) -> None:
        for tally in (self, *self.by_dialect.values()):
            tally.total, tally.peak = 0, tally.in_flight
        self.aborted = self.over_limit = 0
        self.answers.clear()
        self.calls.clear()


@dataclasses.dataclass(slots=True)
class Call:
    """A line of the ledger; a hang ends, as "hang", when the client goes away."""

    item: str
    dialect: Dialect
    start_ms: float
    end_ms: float | None = None
    outcome: Outcome | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Lane:
    """A dialect's behaviour, its random choice and the tally that its limit counts."""

    behaviour: Behaviour
    shares: list[tuple[float, Plan]]
    rng: random.Random
    limited: Tally


def _now_ms() -> float:
    return time.monotonic() * 1000


class Simulator:
    """The provider on a socket: `async with Simulator(Behaviour(...)) as sim: sim.url`."""

    def __init__(
        self, behaviour: Behaviour | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._host = host
        self._port = port
        self._connections: set[Connection] = set()
        self._statistics = Statistics()
        self._ledger: deque[Call] = deque(maxlen=_LEDGER_CALLS)
        self._last: dict[Dialect, Exchange] = {}
        self.configure(behaviour or Behaviour())

    async def __aenter__(self) -> Self:
        connect = partial(Connection, self._handle, self._connections)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(connect, self._host, self._port, backlog=4096)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    def configure(self, behaviour: Behaviour) -> None:
        """Replace the behaviour and restart its random choices from its seed."""
        self.behaviour = behaviour
        self._lanes: dict[Dialect, _Lane] = {}
        for dialect in DIALECTS:
            own = behaviour.by_dialect.get(dialect)
            chosen = own or behaviour
            self._lanes[dialect] = _Lane(
                chosen,
                fault_shares(chosen),
                random.Random(chosen.seed),  # noqa: S311 - reproducible on purpose
                self._statistics.by_dialect[dialect] if own else self._statistics,
            )

    def stats(self) -> dict[str, Any]:
        return dict(orjson.loads(orjson.dumps(self._statistics)))

    def ledger(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(call) for call in self._ledger]

    def last(self) -> dict[Dialect, dict[str, Any]]:
        """Headers (names in lower case) and body of each dialect's last well-formed request."""
        return {
            dialect: {"headers": exchange.headers, "body": orjson.loads(exchange.body)}
            for dialect, exchange in self._last.items()
        }

    def reset(self) -> None:
        """Forget all calls but those in flight, which stay counted as such."""
        self._statistics.reset()
        self._ledger.clear()
        self._last.clear()

    def _handle(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case "POST", path if path.endswith("/chat/completions"):
                self._chat(exchange, "openrouter")
            case "POST", "/api/chat":
                self._chat(exchange, "ollama")
            case "GET", "/_sim/stats":
                exchange.reply(200, orjson.dumps(self._statistics))
            case "GET", "/_sim/ledger":
                exchange.reply(200, orjson.dumps(list(self._ledger)))
            case "GET", "/_sim/last":
                exchange.reply(200, orjson.dumps(self.last()))
            case "GET", "/_sim/config":
                exchange.reply(200, orjson.dumps(self.behaviour))
            case "PUT", "/_sim/config":
                self._put_config(exchange)
            case "POST", "/_sim/reset":
                self.reset()
                exchange.reply(200, b"{}")
            case _:
                exchange.reply(404, b'{"error":"not found"}')

    def _put_config(self, exchange: Exchange) -> None:
        try:
            self.configure(load_behaviour(exchange.body))
        except ValueError as error:
            exchange.reply(422, orjson.dumps({"error": str(error)}))
        else:
            exchange.reply(200, orjson.dumps(self.behaviour))

    def _chat(self, exchange: Exchange, dialect: Dialect) -> None:
        lane = self._lanes[dialect]
        behaviour, limit = lane.behaviour, lane.behaviour.limit
        try:
            chat = parse_chat(dialect, exchange.body)
        except ValueError as error:
            self._refuse(exchange, Chat(dialect), 400, str(error))
            return
        self._last[dialect] = exchange
        wanted = f"Bearer {behaviour.expect_key}" if behaviour.expect_key is not None else None
        if dialect == "openrouter" and wanted not in (None, exchange.headers.get("authorization")):
            self._refuse(exchange, chat, 401, "No auth credentials found")
            return
        if limit is not None and lane.limited.in_flight >= limit:
            self._statistics.over_limit += 1
            self._refuse(exchange, chat, 429, "Rate limit exceeded")
            return

        call = self._begin(chat)
        for tally in (self._statistics, self._statistics.by_dialect[dialect]):
            tally.in_flight += 1
            tally.peak = max(tally.peak, tally.in_flight)
        plan = parse_model(chat.model) or draw_plan(lane.shares, lane.rng)
        if plan.first is not None and self._statistics.calls[call.item] > plan.first:
            plan = Plan(latency_ms=plan.latency_ms)
        if plan.latency_ms is None:
            latency_ms = draw_latency_ms(behaviour, lane.rng)
            plan = dataclasses.replace(plan, latency_ms=latency_ms)
        exchange.on_lost = partial(self._lose, call, plan)
        done = partial(self._leave, call)
        answer = partial(respond, exchange, chat, plan, behaviour.retry_after, done)
        if plan.latency_ms:
            exchange.after(plan.latency_ms / 1000, answer)
        else:
            answer()

    def _refuse(self, exchange: Exchange, chat: Chat, status: int, message: str) -> None:
        """Answer at once; the call is counted but never in flight."""
        call = self._begin(chat)
        retry_after = self._lanes[chat.dialect].behaviour.retry_after
        reply_error(exchange, chat.dialect, status, message, retry_after)
        self._end(call, status)

    def _begin(self, chat: Chat) -> Call:
        call = Call(chat.item, chat.dialect, _now_ms())
        self._statistics.total += 1
        self._statistics.by_dialect[chat.dialect].total += 1
        self._statistics.calls[call.item] += 1
        if self._lanes[chat.dialect].behaviour.ledger:
            self._ledger.append(call)
        return call

    def _end(self, call: Call, outcome: Outcome) -> None:
        call.end_ms = _now_ms()
        call.outcome = outcome
        if isinstance(outcome, int):
            self._statistics.answers[str(outcome)] += 1

    def _leave(self, call: Call, outcome: Outcome) -> None:
        self._statistics.in_flight -= 1
        self._statistics.by_dialect[call.dialect].in_flight -= 1
        self._end(call, outcome)

    def _lose(self, call: Call, plan: Plan) -> None:
        self._statistics.aborted += 1
        self._leave(call, "hang" if plan.fault is Fault.HANG else "aborted")


async def _serve(behaviour: Behaviour, host: str, port: int) -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with Simulator(behaviour, host=host, port=port) as simulator:
        print(f"simulator listening on {simulator.url}", flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cli.simulator", description="A fake provider.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--latency-ms", type=float, help="overrides latency_ms of --config")
    parser.add_argument("--config", default="{}", help="a Behaviour as JSON")
    options = parser.parse_args()
    try:
        behaviour = load_behaviour(options.config)
        if options.latency_ms is not None:
            behaviour = dataclasses.replace(behaviour, latency_ms=options.latency_ms)
    except ValueError as error:
        parser.error(str(error))
    uvloop.run(_serve(behaviour, options.host, options.port))


if __name__ == "__main__":
    main()
