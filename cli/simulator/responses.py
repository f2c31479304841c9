"""The answer to one call, as its plan has it."""

from collections.abc import Callable
from http import HTTPStatus

from cli.simulator.connection import Exchange, reason
from cli.simulator.dialects import Chat, Dialect, completion, error_body
from cli.simulator.faults import Fault, Outcome, Plan

HTML = "text/html; charset=utf-8"


def reply_error(
    exchange: Exchange, dialect: Dialect, status: int, message: str, retry_after: str | None
) -> None:
    """An error status in the dialect's form; `retry_after` goes on 429 and 503."""
    waits = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    body = error_body(dialect, status, message)
    exchange.reply(status, body, retry_after=retry_after if waits else None)


def respond(
    exchange: Exchange,
    chat: Chat,
    plan: Plan,
    retry_after: str | None,
    done: Callable[[Outcome], None],
) -> None:
    """Do what the plan says, then call `done`; after a hang `done` is never called."""
    outcome: Outcome = 200
    match plan.fault:
        case Fault.HANG:
            return
        case Fault.DROP:
            exchange.drop()
            outcome = "drop"
        case Fault.STATUS:
            outcome = plan.status
            message = reason(plan.status)
            if chat.dialect == "ollama" and plan.status == HTTPStatus.NOT_FOUND:
                message = f'model "{chat.model}" not found, try pulling it first'
            reply_error(exchange, chat.dialect, plan.status, message, retry_after)
        case Fault.ERROR_OBJECT:
            exchange.reply(200, error_body(chat.dialect, plan.status, reason(plan.status)))
        case Fault.GARBAGE:
            exchange.reply(200, b'{"choices": [\xff\x00')
        case Fault.HTML:
            exchange.reply(200, b"<html><body>Bad gateway</body></html>", content_type=HTML)
        case Fault.HALF:
            exchange.reply_half(completion(chat, None, plan.latency_ms or 0))
        case Fault.DRIP:
            body = completion(chat, None, plan.latency_ms or 0)
            exchange.reply_drip(body, lambda: done(200))
            return
        case fault:
            exchange.reply(200, completion(chat, fault, plan.latency_ms or 0))
    done(outcome)
