"""Decides what happens to each call, and answers it."""

import dataclasses
import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson

from cli.simulator.behaviour import Behaviour, draw_latency_ms, draw_plan
from cli.simulator.budgets import BudgetState
from cli.simulator.chat import Chat
from cli.simulator.connection import Exchange, ServerConnection
from cli.simulator.dialect import SimulatedDialect
from cli.simulator.dialects import DIALECTS
from cli.simulator.faults import CallOutcome, Plan, SimulatedFault, parse_model
from cli.simulator.model_states import BehaviourState, BehaviourStates
from cli.simulator.records import OpenCall, Records
from cli.simulator.request_windows import WindowState
from cli.simulator.responses import reply_error, reply_outage, respond
from cli.simulator.scopes import Scoped, SimulatedRefusal, scope_name
from cli.simulator.slots import Loads
from cli.simulator.streams import STREAM_FAULTS, respond_stream
from cli.simulator.tokens import COUNTERS

_LIMIT_MESSAGES = {429: "Rate limit exceeded", 503: "Overloaded"}


@dataclass(frozen=True, slots=True)
class _Request:
    exchange: Exchange
    dialect: SimulatedDialect
    dialect_name: str
    chat: Chat
    key: str
    state: BehaviourState


class SimulatedCalls:
    """Answers calls according to the behaviour, and records the calls."""

    def __init__(self, connections: set[ServerConnection]) -> None:
        self._connections = connections
        self._states = BehaviourStates()
        self._budgets = Scoped(BudgetState)
        self._windows = Scoped(WindowState)
        self._loads = Loads()
        self.records = Records()
        self.last: dict[str, Exchange] = {}

    def configure(self, behaviour: Behaviour) -> None:
        self._states.configure(behaviour, self.records.statistics)

    def stats(self) -> dict[str, Any]:
        counts = self.records.statistics
        shown = {field.name: getattr(counts, field.name) for field in dataclasses.fields(counts)}
        budgets = [{"of": name, **state.report()} for name, state in self._budgets.all()]
        return {**shown, "aborted_loads": self._loads.aborted, "budgets": budgets}

    def reset(self) -> None:
        self.records.reset()
        self.last.clear()
        self._budgets.clear()
        self._windows.clear()
        self._loads.reset()

    def answer(self, exchange: Exchange, dialect_name: str) -> None:
        dialect = DIALECTS[dialect_name]
        key = exchange.headers.get(dialect.key_header or "", "").removeprefix("Bearer ")
        try:
            chat = _read(exchange, dialect)
        except ValueError as error:
            state = self._states.of(dialect_name)
            request = _Request(exchange, dialect, dialect_name, Chat(), key, state)
            self._refuse(request, SimulatedRefusal(HTTPStatus.BAD_REQUEST, str(error)))
            return
        self.last[dialect_name] = exchange
        state = self._states.of(dialect_name, chat.model)
        if state.behaviour.tokenizer != "words":
            chat = dataclasses.replace(chat, count_tokens=COUNTERS[state.behaviour.tokenizer])
        request = _Request(exchange, dialect, dialect_name, chat, key, state)
        if refusal := self._refusal(request):
            self._refuse(request, refusal)
        else:
            self._work(request)

    def _refusal(self, request: _Request) -> SimulatedRefusal | None:
        """Returns the refusal of the call; None if it is admitted. Charges window and budget.

        During an outage no call is refused, and nothing is charged.
        """
        behaviour, state = request.state.behaviour, request.state
        if state.has_outage:
            return None
        if behaviour.expect_key not in (None, request.key) and request.dialect.key_header:
            return SimulatedRefusal(HTTPStatus.UNAUTHORIZED, "No auth credentials found")
        if self._is_over_limit(request):
            self.records.statistics.over_limit += 1
            message = _LIMIT_MESSAGES[behaviour.limit_status]
            return SimulatedRefusal(
                behaviour.limit_status, message, delay_ms=behaviour.limit_delay_ms
            )
        if window := behaviour.window:
            group = scope_name(window.per, request.key, request.chat.model)
            if refusal := self._windows.of(window, group).admit(time.time()):
                return refusal
        budget = self._budget(request)
        return budget.admit(request.chat, time.monotonic()) if budget else None

    def _is_over_limit(self, request: _Request) -> bool:
        """Returns whether the behaviour's `limit` of calls in flight has been reached.

        First ends the calls whose clients have disconnected, if the limit or the peak depends on
        these calls.
        """
        state = request.state
        counts = self.records.counts(request.dialect_name)
        new_peak = state.behaviour.ledger and any(c.in_flight >= c.peak for c in counts)
        if state.is_full or new_peak:
            for connection in self._connections - {request.exchange.connection}:
                connection.notice_loss()
        return state.is_full

    def _budget(self, request: _Request) -> BudgetState | None:
        budget = request.state.behaviour.budget
        if budget is None or request.state.has_outage:
            return None
        group = scope_name(budget.per, request.key, request.chat.model)
        return self._budgets.of(budget, group)

    def _refuse(self, request: _Request, refusal: SimulatedRefusal) -> None:
        """Answers with an error, after the refusal's delay. The call never counts as in flight."""
        call = self._open(request)

        def reply() -> None:
            reply_error(
                request.exchange,
                request.dialect,
                refusal.status,
                refusal.message,
                request.state.behaviour.retry_after,
                refusal.headers,
            )
            self.records.end(call, refusal.status)

        request.exchange.on_lost = partial(self.records.abort, call, hung=False)
        request.exchange.after(refusal.delay_ms / 1000, reply)

    def _work(self, request: _Request) -> None:
        """Answers the call when a slot is free, the model is loaded, and the latency is over."""
        state, chat, call = request.state, request.chat, self._open(request)
        plan = self._plan(state, chat)
        budget = self._budget(request)
        self.records.start(call)
        request.exchange.on_lost = partial(
            self.records.abort, call, hung=plan.fault is SimulatedFault.HANG
        )

        def done(outcome: CallOutcome) -> None:
            if budget:
                budget.settle(chat, chat.answer_tokens if outcome == HTTPStatus.OK else 0)
            self.records.end(call, outcome)

        def answer() -> None:
            retry_after = state.behaviour.retry_after
            if plan.outage:
                done(reply_outage(request.exchange, request.dialect, plan.outage, retry_after))
            elif chat.is_stream and plan.fault in STREAM_FAULTS:
                chunk_s = state.behaviour.chunk_ms / 1000
                respond_stream(request.exchange, request.dialect, chat, plan, chunk_s, done)
            else:
                headers = budget.headers() if budget else ()
                respond(request.exchange, request.dialect, chat, plan, retry_after, headers, done)

        def wait() -> None:
            request.exchange.after((plan.latency_ms or 0) / 1000, answer)

        def load() -> None:
            if state.behaviour.load_s and not plan.outage:
                self._loads.enter(chat.model, state.behaviour.load_s, wait, call.leaves)
            else:
                wait()

        if state.behaviour.slots and not plan.outage:
            state.slots.enter(load, call.leaves)
        else:
            load()

    def _open(self, request: _Request) -> OpenCall:
        client, keep = request.exchange.connection.client_port, request.state.behaviour.ledger
        return self.records.open(request.dialect_name, request.chat, request.key, client, keep=keep)

    def _plan(self, state: BehaviourState, chat: Chat) -> Plan:
        if state.has_outage:
            plan = Plan(outage=state.behaviour.outage)
        elif (marker := state.behaviour.poison) and marker in chat.text:
            plan = Plan(SimulatedFault.STATUS, HTTPStatus.INTERNAL_SERVER_ERROR)
        else:
            plan = parse_model(chat.model) or draw_plan(state.shares, state.rng)
        if plan.first is not None and self.records.statistics.calls[chat.item] > plan.first:
            plan = Plan(latency_ms=plan.latency_ms)
        if plan.latency_ms is None:
            latency_ms = draw_latency_ms(state.behaviour, state.rng)
            plan = dataclasses.replace(plan, latency_ms=latency_ms)
        return plan


def _read(exchange: Exchange, dialect: SimulatedDialect) -> Chat:
    """Returns the request. Raises ValueError with the reason if a provider would refuse it.

    Also raises ValueError if the request asks for a stream that the simulator does not support.
    """
    try:
        document = orjson.loads(exchange.body)
        chat = dialect.read(document, exchange.path)
        stream = document.get("stream", dialect.streams_by_default)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("the body must be a JSON object with a model and an input") from error
    if stream and dialect.stream is None:
        raise ValueError("stream must be false: the simulator does not stream this")
    options = document.get("stream_options") or {}
    return dataclasses.replace(
        chat, is_stream=bool(stream), stream_usage=bool(options.get("include_usage"))
    )
