"""Encodes and decodes payloads in arq's job format. No other module knows that format."""

from typing import Any

import orjson
from arq.jobs import deserialize_job_raw, serialize_job
from arq.utils import timestamp_ms

CALL_PROVIDER = "call_provider"  # task function of a request
DELIVER_WEBHOOK = "deliver_webhook"  # task function of a webhook delivery
OPENAI_EVENT = "openai"  # last argument of a delivery that sends OpenAI's event


def encode_payload(task: str, *args: object) -> bytes:
    return serialize_job(task, args, {}, None, timestamp_ms(), serializer=orjson.dumps)


def decode_payload(payload: bytes) -> tuple[str, tuple[Any, ...]]:
    """Returns the name of the task function and its arguments.

    Raises arq's DeserializationError.
    """
    task, args, _, _, _ = deserialize_job_raw(payload, deserializer=orjson.loads)
    return task, args
