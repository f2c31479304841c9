"""Describes an outage: the same answer to every call, for some time or until it is replaced."""

from typing import Annotated

import orjson
from pydantic import ConfigDict, Field, JsonValue
from pydantic.dataclasses import dataclass

from cli.simulator.connection import Headers

HeaderText = Annotated[str, Field(pattern=r"^[\x20-\x7e]+$")]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Outage:
    """Describes the answer that every valid call gets, after the latency.

    During an outage, keys are not checked, and no limit, window, budget, slot or load time applies.

    status: None closes the connection without an answer.
    body: JSON, or a string that is sent as it is. Default: an error in the dialect's format.
    seconds: duration, from the moment at which the outage is configured. Default: until the
        behaviour is replaced.
    """

    status: Annotated[int, Field(ge=200, le=599)] | None = 503
    body: JsonValue = None
    headers: dict[HeaderText, HeaderText] = Field(default_factory=dict)
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    def content(self) -> bytes | None:
        if self.body is None:
            return None
        return self.body.encode() if isinstance(self.body, str) else orjson.dumps(self.body)

    def header_lines(self) -> Headers:
        return tuple(self.headers.items())
