"""Defines the interface of a simulated dialect: how a provider reads calls and answers them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cli.simulator.chat import Chat
from cli.simulator.faults import SimulatedFault

_HUGE_CHARACTERS = 17_000_000


@dataclass(frozen=True, slots=True)
class SimulatedDialect:
    """Describes how a provider answers one kind of call.

    path: end of the path of a call.
    read: returns the request, from the parsed body and the path. Raises LookupError, TypeError,
        AttributeError or ValueError if a provider would refuse the body.
    completion: returns the body of a response with status 200. Its arguments are the request, a
        fault that changes the body, and the latency of the call in milliseconds.
    error_body: returns the body of an error response, from a status and a message.
    key_header: the header with the key that the behaviour expects; None if no key is checked.
    stream: returns the events of a streamed answer; None if the simulator has no streams for this
        dialect.
    streams_by_default: whether a body without `stream` asks for a stream.
    model_not_found: the message of a 404; {model} stands for the model.
    """

    path: str
    read: Callable[[dict[str, Any], str], Chat]
    completion: Callable[[Chat, SimulatedFault | None, float], bytes]
    error_body: Callable[[int, str], bytes]
    key_header: str | None = "authorization"
    streams_by_default: bool = False
    stream: Callable[[Chat], list[bytes]] | None = None
    model_not_found: str = "Not Found"


def content_of(chat: Chat, fault: SimulatedFault | None) -> str | None:
    """Returns the text of an answer: very long for the fault HUGE, otherwise the last message.

    Returns None if the answer is a tool call, or for the fault NULL_CONTENT.
    """
    if fault is SimulatedFault.HUGE:
        return "x" * _HUGE_CHARACTERS
    return None if chat.call or fault is SimulatedFault.NULL_CONTENT else f"echo: {chat.text}"
