"""Defines what a job stores if it was created as a batch of OpenAI's API."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import orjson


@dataclass(frozen=True, slots=True)
class BatchDetails:
    """Holds the options of a batch that its answers repeat.

    model: the route that all requests have; None if they have several.
    """

    endpoint: str
    completion_window: str
    input_file_id: str
    metadata: Mapping[str, str] | None = None
    model: str | None = None

    def to_json(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    def identity(self) -> str:
        """Returns the text that two submissions with the same idempotency key must have in common.

        The file's id is not a part, because a program that is repeated uploads its file again.
        """
        parts = (self.endpoint, self.completion_window, self.metadata)
        return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS).decode()


def parse_batch_details(text: bytes) -> BatchDetails:
    return BatchDetails(**orjson.loads(text))
