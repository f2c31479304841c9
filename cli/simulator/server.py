"""Runs the simulator on a socket: chooses the answer to each call, and counts calls and answers."""

import asyncio
import dataclasses
import random
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import orjson

from cli.simulator.behaviour import (
    Behaviour,
    draw_latency_ms,
    draw_plan,
    fault_shares,
    load_behaviour,
)
from cli.simulator.chat import Chat
from cli.simulator.connection import Connection, Exchange
from cli.simulator.dialect import SimulatedDialect
from cli.simulator.dialects import DIALECTS, dialect_at
from cli.simulator.faults import CallOutcome, Fault, Plan, parse_model
from cli.simulator.received import Received, ReceivedCalls
from cli.simulator.responses import reply_error, respond
from cli.simulator.statistics import Call, CallCounts, Statistics

_MAX_LEDGER_CALLS = 200_000


@dataclass(frozen=True, slots=True)
class _DialectState:
    """Contains a dialect's behaviour, random numbers, and the counts that the limit applies to."""

    behaviour: Behaviour
    shares: list[tuple[float, Plan]]
    rng: random.Random
    limited: CallCounts

    @property
    def is_full(self) -> bool:
        limit = self.behaviour.limit
        return limit is not None and self.limited.in_flight >= limit


def _now_ms() -> float:
    return time.monotonic() * 1000


class Simulator:
    """Listens while a block runs: `async with Simulator(Behaviour(...)) as simulator: …`."""

    def __init__(
        self, behaviour: Behaviour | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._host = host
        self._port = port
        self._connections: set[Connection] = set()
        self._statistics = Statistics()
        self._ledger: deque[Call] = deque(maxlen=_MAX_LEDGER_CALLS)
        self._last: dict[str, Exchange] = {}
        self._received = ReceivedCalls()
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
        """Replaces the behaviour, and restarts the random numbers from the behaviour's seed."""
        self.behaviour = behaviour
        self._states: dict[str, _DialectState] = {}
        for dialect in DIALECTS:
            own = behaviour.by_dialect.get(dialect)
            chosen = own or behaviour
            self._states[dialect] = _DialectState(
                chosen,
                fault_shares(chosen),
                random.Random(chosen.seed),  # noqa: S311 - reproducible on purpose
                self._statistics.by_dialect[dialect] if own else self._statistics,
            )

    def stats(self) -> dict[str, Any]:
        return dict(orjson.loads(orjson.dumps(self._statistics)))

    def ledger(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(call) for call in self._ledger]

    def last(self) -> dict[str, dict[str, Any]]:
        """Returns the last valid request of each dialect: its `headers` and its `body`.

        The names of the headers are in lower case.
        """
        return {
            dialect: {"headers": exchange.headers, "body": orjson.loads(exchange.body)}
            for dialect, exchange in self._last.items()
        }

    def received(self) -> list[Received]:
        """Returns the last calls, byte for byte, unless the behaviour has `ledger: false`."""
        return self._received.all()

    def reset(self) -> None:
        """Deletes the counts, the ledger and the calls. Calls in flight still count as such."""
        self._statistics.reset()
        self._ledger.clear()
        self._last.clear()
        self._received.clear()

    def _handle(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case "POST", path if dialect := dialect_at(path):
                self._chat(exchange, dialect)
            case "GET", "/_sim/stats":
                exchange.reply(200, orjson.dumps(self._statistics))
            case "GET", "/_sim/ledger":
                exchange.reply(200, orjson.dumps(list(self._ledger)))
            case "GET", "/_sim/last":
                exchange.reply(200, orjson.dumps(self.last()))
            case "GET", "/_sim/received":
                exchange.reply(200, orjson.dumps([_text(call) for call in self.received()]))
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

    def _chat(self, exchange: Exchange, name: str) -> None:
        state, dialect = self._states[name], DIALECTS[name]
        behaviour = state.behaviour
        if behaviour.ledger:
            self._received.add(Received(exchange.path, exchange.headers, exchange.body))
        try:
            chat = _read(exchange, dialect)
        except ValueError as error:
            self._refuse(exchange, name, Chat(), 400, str(error))
            return
        self._last[name] = exchange
        if not _has_key(exchange, dialect, behaviour.expect_key):
            self._refuse(exchange, name, chat, 401, "No auth credentials found")
            return
        if self._is_over_limit(exchange, name):
            self._statistics.over_limit += 1
            self._refuse(exchange, name, chat, 429, "Rate limit exceeded")
            return
        call = self._start(exchange, name, chat)
        plan = self._plan(state, chat)
        exchange.on_lost = partial(self._abort, call, plan)
        done = partial(self._finish, call)
        answer = partial(respond, exchange, dialect, chat, plan, behaviour.retry_after, done)
        if plan.latency_ms:
            exchange.after(plan.latency_ms / 1000, answer)
        else:
            answer()

    def _is_over_limit(self, exchange: Exchange, name: str) -> bool:
        """Returns whether the dialect has no free slot for this call.

        First removes calls whose clients have disconnected, if they affect the limit or the peak.
        """
        state = self._states[name]
        new_peak = state.behaviour.ledger and any(c.in_flight >= c.peak for c in self._counts(name))
        if state.is_full or new_peak:
            for connection in self._connections - {exchange.connection}:
                connection.notice_loss()
        return state.is_full

    def _plan(self, state: _DialectState, chat: Chat) -> Plan:
        plan = parse_model(chat.model) or draw_plan(state.shares, state.rng)
        if plan.first is not None and self._statistics.calls[chat.item] > plan.first:
            plan = Plan(latency_ms=plan.latency_ms)
        if plan.latency_ms is None:
            latency_ms = draw_latency_ms(state.behaviour, state.rng)
            plan = dataclasses.replace(plan, latency_ms=latency_ms)
        return plan

    def _refuse(self, exchange: Exchange, name: str, chat: Chat, status: int, message: str) -> None:
        """Answers with an error at once. The call is counted, but never as in flight."""
        call = self._record(exchange, name, chat)
        retry_after = self._states[name].behaviour.retry_after
        reply_error(exchange, DIALECTS[name], status, message, retry_after)
        self._record_end(call, status)

    def _start(self, exchange: Exchange, name: str, chat: Chat) -> Call:
        call = self._record(exchange, name, chat)
        for counts in self._counts(name):
            counts.in_flight += 1
            counts.peak = max(counts.peak, counts.in_flight)
        return call

    def _record(self, exchange: Exchange, name: str, chat: Chat) -> Call:
        call = Call(chat.item, name, exchange.connection.client_port, _now_ms())
        for counts in self._counts(name):
            counts.total += 1
        self._statistics.calls[call.item] += 1
        if self._states[name].behaviour.ledger:
            self._ledger.append(call)
        return call

    def _record_end(self, call: Call, outcome: CallOutcome) -> None:
        call.end_ms = _now_ms()
        call.outcome = outcome
        if isinstance(outcome, int):
            self._statistics.answers[str(outcome)] += 1

    def _finish(self, call: Call, outcome: CallOutcome) -> None:
        for counts in self._counts(call.dialect):
            counts.in_flight -= 1
        self._record_end(call, outcome)

    def _abort(self, call: Call, plan: Plan) -> None:
        self._statistics.aborted += 1
        self._finish(call, "hang" if plan.fault is Fault.HANG else "aborted")

    def _counts(self, name: str) -> tuple[CallCounts, CallCounts]:
        return self._statistics, self._statistics.by_dialect[name]


def _read(exchange: Exchange, dialect: SimulatedDialect) -> Chat:
    """Returns the request. Raises ValueError with the reason if a provider would refuse it."""
    try:
        document = orjson.loads(exchange.body)
        chat = dialect.read(document, exchange.path)
        stream = document.get("stream", dialect.streams_by_default)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("the body must be a JSON object with a model and an input") from error
    if stream is not False:
        raise ValueError("stream must be false: the simulator does not stream")
    return chat


def _has_key(exchange: Exchange, dialect: SimulatedDialect, key: str | None) -> bool:
    if key is None or dialect.key_header is None:
        return True
    expected = f"Bearer {key}" if dialect.key_header == "authorization" else key
    return exchange.headers.get(dialect.key_header) == expected


def _text(call: Received) -> dict[str, Any]:
    return dataclasses.asdict(call) | {"body": call.body.decode(errors="replace")}
