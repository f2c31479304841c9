"""Defines what a job stores if it was created as a batch of OpenAI's API."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import orjson


@dataclass(frozen=True, slots=True)
class BatchDetails:
    """Holds the options that the descriptions of a batch contain.

    model: `<provider>/<model>` of all requests of the batch; None if the requests differ in it.
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

        The file's id is not a part of the text, because a program that is repeated uploads its file
        again, and the file gets another id.
        """
        parts = (self.endpoint, self.completion_window, self.metadata)
        return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS).decode()


def parse_batch_details(text: bytes) -> BatchDetails:
    return BatchDetails(**orjson.loads(text))
