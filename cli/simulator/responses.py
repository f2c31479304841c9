"""Answers one call according to its plan."""

from collections.abc import Callable
from http import HTTPStatus

from cli.simulator.chat import Chat
from cli.simulator.connection import Exchange, Headers, reason
from cli.simulator.dialect import SimulatedDialect
from cli.simulator.faults import CallOutcome, Plan, SimulatedFault
from cli.simulator.outages import Outage

HTML = "text/html; charset=utf-8"


def reply_error(
    exchange: Exchange,
    dialect: SimulatedDialect,
    status: int,
    message: str,
    retry_after: str | None,
    headers: Headers = (),
) -> None:
    """Answers with an error in the dialect's format.

    retry_after: value of the header Retry-After, which is sent only with status 429 and 503.
    """
    if retry_after and status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers = (("Retry-After", retry_after), *headers)
    exchange.reply(status, dialect.error_body(status, message), headers=headers)


def reply_outage(
    exchange: Exchange, dialect: SimulatedDialect, outage: Outage, retry_after: str | None
) -> CallOutcome:
    """Answers as the outage demands. Returns the outcome of the call."""
    if outage.status is None:
        exchange.drop()
        return "drop"
    content, headers = outage.content(), outage.header_lines()
    if content is None:
        message = reason(outage.status)
        reply_error(exchange, dialect, outage.status, message, retry_after, headers)
    else:
        exchange.reply(outage.status, content, headers=headers)
    return outage.status


def respond(
    exchange: Exchange,
    dialect: SimulatedDialect,
    chat: Chat,
    plan: Plan,
    retry_after: str | None,
    headers: Headers,
    done: Callable[[CallOutcome], None],
) -> None:
    """Answers as planned, then calls `done`. If the plan is to hang, `done` is never called.

    headers: headers of an answer. A fault that replaces, cuts or slows the answer omits them.
    """
    outcome: CallOutcome = 200
    latency_ms = plan.latency_ms or 0
    match plan.fault:
        case SimulatedFault.HANG:
            return
        case SimulatedFault.DROP:
            exchange.drop()
            outcome = "drop"
        case SimulatedFault.STATUS:
            outcome = plan.status
            message = reason(plan.status)
            if plan.status == HTTPStatus.NOT_FOUND:
                message = dialect.model_not_found.format(model=chat.model)
            reply_error(exchange, dialect, plan.status, message, retry_after)
        case SimulatedFault.ERROR_OBJECT:
            exchange.reply(200, dialect.error_body(plan.status, reason(plan.status)))
        case SimulatedFault.GARBAGE:
            exchange.reply(200, b'{"choices": [\xff\x00')
        case SimulatedFault.HTML:
            exchange.reply(200, b"<html><body>Bad gateway</body></html>", content_type=HTML)
        case SimulatedFault.HALF:
            exchange.reply_half(dialect.completion(chat, None, latency_ms))
        case SimulatedFault.DRIP:
            body = dialect.completion(chat, None, latency_ms)
            exchange.reply_drip(body, lambda: done(200))
            return
        case fault:
            exchange.reply(200, dialect.completion(chat, fault, latency_ms), headers=headers)
    done(outcome)
