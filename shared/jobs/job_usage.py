"""Sums the tokens of a job's answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.dialects.values import record, tokens


@dataclass(slots=True)
class JobUsage:
    """Holds the sums of the tokens of all answers of a job."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def add(self, result: dict[str, Any]) -> None:
        self.input_tokens += result["prompt_tokens"]
        self.output_tokens += result["completion_tokens"]
        usage = result["usage"] or {}
        self.cached_tokens += _detail(usage, ("prompt", "input"), "cached_tokens")
        self.reasoning_tokens += _detail(usage, ("completion", "output"), "reasoning_tokens")


def _detail(usage: dict[str, Any], names: Sequence[str], detail: str) -> int:
    """Returns a number from the details of the usage, or 0 if there is none.

    names: the first words of the field with the details, in OpenAI's chat API and responses API.
    """
    return max(tokens(record(usage.get(f"{name}_tokens_details")).get(detail)) for name in names)
