"""Runs the simulator on a socket, and lets tests read and change it while it runs."""

import asyncio
import dataclasses
from functools import partial
from typing import Any, Self

import orjson

from cli.simulator.behaviour import Behaviour, load_behaviour
from cli.simulator.calls import SimulatedCalls
from cli.simulator.connection import Exchange, ServerConnection
from cli.simulator.dialects import dialect_at
from cli.simulator.received_calls import Received, ReceivedCalls


class Simulator:
    """Listens while a block runs: `async with Simulator(Behaviour(...)) as simulator: …`."""

    def __init__(
        self, behaviour: Behaviour | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._host = host
        self._port = port
        self._connections: set[ServerConnection] = set()
        self._calls = SimulatedCalls(self._connections)
        self._received = ReceivedCalls()
        self.configure(behaviour or Behaviour())

    async def __aenter__(self) -> Self:
        connect = partial(ServerConnection, self._handle, self._connections)
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
        """Replaces the behaviour, and restarts the random numbers from the behaviour's seed.

        An outage begins now. A budget or a window that stays the same continues.
        """
        self.behaviour = behaviour
        self._calls.configure(behaviour)

    def stats(self) -> dict[str, Any]:
        return dict(orjson.loads(orjson.dumps(self._calls.stats())))

    def ledger(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(call) for call in self._calls.records.ledger]

    def last(self) -> dict[str, dict[str, Any]]:
        """Returns the last valid request of each dialect: its `headers` and its `body`.

        The names of the headers are in lower case.
        """
        return {
            dialect: {"headers": exchange.headers, "body": orjson.loads(exchange.body)}
            for dialect, exchange in self._calls.last.items()
        }

    def received(self) -> list[Received]:
        """Returns the last calls, byte for byte: at most 1,000, with at most 64 MiB of bodies.

        Calls that arrive while the behaviour has `ledger: false` are not kept.
        """
        return self._received.all()

    def reset(self) -> None:
        """Deletes the counts, the ledger and the kept calls.

        Calls in flight still count as in flight. Fills the budgets, closes the windows and unloads
        the models.
        """
        self._calls.reset()
        self._received.clear()

    def _handle(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case "POST", path if dialect := dialect_at(path):
                self._receive(exchange, dialect)
            case "GET", "/_sim/stats":
                exchange.reply(200, orjson.dumps(self._calls.stats()))
            case "GET", "/_sim/ledger":
                exchange.reply(200, orjson.dumps(list(self._calls.records.ledger)))
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

    def _receive(self, exchange: Exchange, dialect: str) -> None:
        if (self.behaviour.by_dialect.get(dialect) or self.behaviour).ledger:
            self._received.add(Received(exchange.path, exchange.headers, exchange.body))
        self._calls.answer(exchange, dialect)


def _text(call: Received) -> dict[str, Any]:
    return dataclasses.asdict(call) | {"body": call.body.decode(errors="replace")}
