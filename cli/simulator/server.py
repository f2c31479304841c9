"""The provider on a socket: which call gets which answer, and the counting of both."""

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
from cli.simulator.connection import Connection, Exchange
from cli.simulator.dialects import DIALECTS, Chat, Dialect, parse_chat
from cli.simulator.faults import Fault, Outcome, Plan, parse_model
from cli.simulator.responses import reply_error, respond
from cli.simulator.statistics import Call, Statistics, Tally

_LEDGER_CALLS = 200_000


@dataclass(frozen=True, slots=True)
class _Lane:
    """A dialect's behaviour, its random choice and the tally that its limit counts."""

    behaviour: Behaviour
    shares: list[tuple[float, Plan]]
    rng: random.Random
    limited: Tally

    @property
    def is_full(self) -> bool:
        limit = self.behaviour.limit
        return limit is not None and self.limited.in_flight >= limit


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
        behaviour = lane.behaviour
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
        tallies = (self._statistics, self._statistics.by_dialect[dialect])
        new_peak = behaviour.ledger and any(tally.in_flight >= tally.peak for tally in tallies)
        if lane.is_full or new_peak:
            for connection in self._connections - {exchange.connection}:
                connection.notice_loss()
        if lane.is_full:
            self._statistics.over_limit += 1
            self._refuse(exchange, chat, 429, "Rate limit exceeded")
            return

        call = self._begin(exchange, chat)
        for tally in tallies:
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
        call = self._begin(exchange, chat)
        retry_after = self._lanes[chat.dialect].behaviour.retry_after
        reply_error(exchange, chat.dialect, status, message, retry_after)
        self._end(call, status)

    def _begin(self, exchange: Exchange, chat: Chat) -> Call:
        call = Call(chat.item, chat.dialect, exchange.connection.client_port, _now_ms())
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
