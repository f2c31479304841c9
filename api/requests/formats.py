"""Defines the formats in which a client can write the requests of a job, and finds the format."""

from collections.abc import Mapping
from enum import StrEnum

from api.requests.json_members import Member
from shared.dialects.dialect import Operation


class RequestFormat(StrEnum):
    """Names the format of all requests of a job.

    https://platform.openai.com/docs/guides/batch
    https://docs.anthropic.com/en/api/creating-message-batches
    https://ai.google.dev/gemini-api/docs/batch-api
    """

    NATIVE = "native"  # the request of POST /batch
    OPENAI_BATCH = "openai-batch"  # custom_id, method, url, body
    OPENAI = "openai"  # a body of OpenAI's chat, responses or embeddings
    ANTHROPIC_BATCH = "anthropic-batch"  # custom_id, params
    ANTHROPIC = "anthropic"  # a body of Anthropic's messages
    GEMINI_BATCH = "gemini-batch"  # key, request
    GEMINI = "gemini"  # a body of Gemini's generateContent


# The member that contains the body, for the formats in which an envelope surrounds the body.
BODY_MEMBER = {
    RequestFormat.OPENAI_BATCH: "body",
    RequestFormat.ANTHROPIC_BATCH: "params",
    RequestFormat.GEMINI_BATCH: "request",
}
# The members of each envelope in addition to the body. `metadata` is this API's extension.
ENVELOPE_MEMBERS = {
    RequestFormat.OPENAI_BATCH: {"custom_id", "method", "url", "metadata"},
    RequestFormat.ANTHROPIC_BATCH: {"custom_id", "metadata"},
    RequestFormat.GEMINI_BATCH: {"key", "metadata"},
}
# The member that becomes the item's request id.
ID_MEMBER = {
    RequestFormat.NATIVE: "request_id",
    RequestFormat.OPENAI_BATCH: "custom_id",
    RequestFormat.OPENAI: "custom_id",
    RequestFormat.ANTHROPIC_BATCH: "custom_id",
    RequestFormat.ANTHROPIC: "custom_id",
    RequestFormat.GEMINI_BATCH: "key",
    RequestFormat.GEMINI: "custom_id",
}
# The members of a line without an envelope that are not sent to the provider.
BARE_MEMBERS = {"custom_id", "metadata"}


def detect(members: Mapping[str, Member]) -> RequestFormat | None:
    """Returns the format of a line, or None if the line has none of the formats.

    Returns OPENAI for a chat body without an envelope, although the body may be Anthropic's.
    """

    def has(name: str, kind: type) -> bool:
        return name in members and isinstance(members[name].value, kind)

    signs = {
        RequestFormat.NATIVE: has("provider", str),  # OpenRouter's own `provider` is an object
        RequestFormat.ANTHROPIC_BATCH: has("params", dict),
        RequestFormat.GEMINI_BATCH: has("request", dict),
        RequestFormat.OPENAI_BATCH: has("body", dict),
        RequestFormat.GEMINI: "contents" in members,
        RequestFormat.OPENAI: "messages" in members or "input" in members,
    }
    return next((name for name, is_sign in signs.items() if is_sign), None)


def bare_operation(body: Mapping[str, Member], model: str) -> Operation:
    """Returns the operation that the fields of a body show.

    The line must have no URL, and a format other than Anthropic's. A body with `input` is for
    embeddings if the model's name contains "embed", otherwise for responses.
    """
    if "contents" in body:
        return Operation.GENERATE_CONTENT
    if "messages" in body:
        return Operation.CHAT
    return Operation.EMBEDDINGS if "embed" in model.lower() else Operation.RESPONSES
