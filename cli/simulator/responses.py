"""Answers one call according to its plan."""

from collections.abc import Callable
from http import HTTPStatus

from cli.simulator.chat import Chat
from cli.simulator.connection import Exchange, reason
from cli.simulator.dialect import SimulatedDialect
from cli.simulator.faults import CallOutcome, Fault, Plan

HTML = "text/html; charset=utf-8"


def reply_error(
    exchange: Exchange,
    dialect: SimulatedDialect,
    status: int,
    message: str,
    retry_after: str | None,
) -> None:
    """Answers with an error in the dialect's format. Only 429 and 503 get the Retry-After."""
    waits = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    body = dialect.error_body(status, message)
    exchange.reply(status, body, retry_after=retry_after if waits else None)


def respond(
    exchange: Exchange,
    dialect: SimulatedDialect,
    chat: Chat,
    plan: Plan,
    retry_after: str | None,
    done: Callable[[CallOutcome], None],
) -> None:
    """Answers as planned, then calls `done`. If the plan is to hang, `done` is never called."""
    outcome: CallOutcome = 200
    latency_ms = plan.latency_ms or 0
    match plan.fault:
        case Fault.HANG:
            return
        case Fault.DROP:
            exchange.drop()
            outcome = "drop"
        case Fault.STATUS:
            outcome = plan.status
            message = reason(plan.status)
            if plan.status == HTTPStatus.NOT_FOUND:
                message = dialect.model_not_found.format(model=chat.model)
            reply_error(exchange, dialect, plan.status, message, retry_after)
        case Fault.ERROR_OBJECT:
            exchange.reply(200, dialect.error_body(plan.status, reason(plan.status)))
        case Fault.GARBAGE:
            exchange.reply(200, b'{"choices": [\xff\x00')
        case Fault.HTML:
            exchange.reply(200, b"<html><body>Bad gateway</body></html>", content_type=HTML)
        case Fault.HALF:
            exchange.reply_half(dialect.completion(chat, None, latency_ms))
        case Fault.DRIP:
            body = dialect.completion(chat, None, latency_ms)
            exchange.reply_drip(body, lambda: done(200))
            return
        case fault:
            exchange.reply(200, dialect.completion(chat, fault, latency_ms))
    done(outcome)
