"""Says what a call has used of the provider's limits, and which limits the provider announced."""

from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import orjson

from shared.dialects.dialect import Answer
from shared.providers import Provider
from shared.queue.item_request import ItemRequest
from shared.queue.leases import Announced, CallUsage
from worker.outcomes import Attempt
from worker.providers.announced_limits import announced_limits, announced_rates

READ_EVERY_S = 1.0
_MAX_MODELS = 1000  # limit of the models whose times are kept
# Names of the field that limits the tokens of an answer, at the top level or inside another field
_TOKEN_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_NESTED_TOKEN_LIMITS = (("generationConfig", "maxOutputTokens"), ("options", "num_predict"))


class HeaderReading:
    """Reads the limits in the headers of responses, at most once a second per account and model.

    The lane of an attempt without an account stands for the account.
    """

    def __init__(self) -> None:
        self._read_at: dict[tuple[str, str], float] = {}

    def of_call(self, row: Provider, lane: str, model: str) -> "CallHeaders | None":
        """Returns the reader for one call; None if its headers do not have to be read.

        lane: the account or the lane.
        """
        if row.limit_headers == "none" or not self._is_due((lane, model)):
            return None
        return CallHeaders(self, row, (lane, model))

    def take(self, name: tuple[str, str]) -> bool:
        """Returns whether the caller has to read the headers now. If so, notes the time."""
        if not self._is_due(name):
            return False
        if len(self._read_at) >= _MAX_MODELS:
            self._read_at.clear()
        self._read_at[name] = monotonic()
        return True

    def _is_due(self, name: tuple[str, str]) -> bool:
        return monotonic() - self._read_at.get(name, -READ_EVERY_S) >= READ_EVERY_S


class CallHeaders:
    __slots__ = ("_name", "_reading", "_row", "announced")

    def __init__(self, reading: HeaderReading, row: Provider, name: tuple[str, str]) -> None:
        self._reading = reading
        self._row = row
        self._name = name
        self.announced: dict[str, Announced] = {}

    def __call__(self, headers: Mapping[str, str]) -> None:
        if self._reading.take(self._name):
            limits = announced_limits(self._row.limit_headers, headers, datetime.now(UTC))
            self.announced = announced_rates(limits)


def usage_of(
    row: Provider,
    attempt: Attempt,
    request: ItemRequest,
    answer: Answer | None,
    headers: CallHeaders | None,
) -> CallUsage | None:
    """Returns the usage that the settlement reports; None if there is nothing to report.

    Tokens are reported only if a limiter has charged the lease. If the row has `reserves_output`,
    the request's token limit is reported in place of the answer's tokens.

    answer: None if the call failed.
    """
    announced = headers.announced if headers else {}
    if answer is None or not (attempt.lease_id.is_limited and answer.prompt_tokens):
        return CallUsage(announced=announced) if announced else None
    limit = _token_limit(request) if row.reserves_output else None
    return CallUsage(answer.prompt_tokens, limit or answer.completion_tokens, announced)


def _token_limit(request: ItemRequest) -> int | None:
    if "chat" in request:
        fields: Any = request["chat"]
    else:
        fields = orjson.loads(b"0".join(part.encode() for part in request["body"]))
    found = [fields.get(name) for name in _TOKEN_LIMITS]
    for outer, inner in _NESTED_TOKEN_LIMITS:
        if isinstance(fields.get(outer), dict):
            found.append(fields[outer].get(inner))
    return next((value for value in found if type(value) is int and value > 0), None)
