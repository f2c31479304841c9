"""Reads the parts of one line in the format of OpenAI, Anthropic or Gemini.

The body of such a line is kept as the client wrote it, with two exceptions. The model's name is
replaced, because the provider may know the model by another name. The fields that ask for a stream
are left out.
"""

from collections.abc import Mapping

import orjson

from api.requests.formats import BARE_MEMBERS, BODY_MEMBER, ENVELOPE_MEMBERS, RequestFormat
from api.requests.json_members import InvalidJson, Member, object_members, one_line
from shared.models import MAX_NAME

MAX_METADATA_BYTES = 16 * 1024  # the metadata of META_ITEMS items is one field in Redis
# Codes of OpenAI's batch API
INVALID_JSON = "invalid_json_line"
MISSING = "missing_required_parameter"
MODEL_NOT_FOUND = "model_not_found"

_STREAM_MEMBERS = {"stream", "stream_options"}  # OpenAI refuses stream_options without stream
_FORMATS = (
    "a request of this API (`provider`, `model`, `messages`), a line of an OpenAI batch"
    " (`custom_id`, `method`, `url`, `body`), an Anthropic batch (`custom_id`, `params`) or a"
    " Gemini batch (`key`, `request`), or a body with `messages`, `input` or `contents`"
)
NOT_STRICT = (
    "half of a UTF-16 surrogate pair, a number of more than 64 bits, or more than 250 nested arrays"
    " and objects"
)


class InvalidLine(ValueError):
    """The line cannot be accepted. `str(error)` says what to change.

    path: the path to the field.
    code: the reason for programs, under the name that OpenAI's batch API has for it.
    """

    def __init__(self, message: str, *path: str | int, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.path = path
        self.code = code


def parse_line(line: bytes) -> dict[str, Member]:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise InvalidLine("the line is not UTF-8", code=INVALID_JSON) from None
    if text.lstrip()[:1] not in {"{", ""}:
        raise InvalidLine(f"the line must be a JSON object: {_FORMATS}", code=INVALID_JSON)
    try:
        return object_members(text)
    except InvalidJson as error:
        raise InvalidLine(str(error), code=INVALID_JSON) from None


def unknown_format(members: Mapping[str, Member]) -> InvalidLine:
    for name in BODY_MEMBER.values():
        if name in members:
            return InvalidLine("must be an object", name)
    if "prompt" in members:
        return InvalidLine(
            "the line has a `prompt`, but no `messages`: send it as"
            ' {"model": …, "messages": [{"role": "user", "content": …}]}, or submit the file with'
            " `orchestrator submit --field prompt`"
        )
    return InvalidLine(f"the line has none of the accepted formats; each line must be {_FORMATS}")


def open_envelope(
    members: Mapping[str, Member], job_format: RequestFormat
) -> tuple[Mapping[str, Member], Mapping[str, Member], tuple[str, ...]]:
    """Returns the members around the body, the members of the body, and the path to the body.

    If the line has an envelope, the first mapping has all members of the line, even the body.
    Raises InvalidLine.
    """
    name = BODY_MEMBER.get(job_format)
    if name is None:
        other = {key: value for key, value in members.items() if key in BARE_MEMBERS}
        return other, {key: v for key, v in members.items() if key not in BARE_MEMBERS}, ()
    if name not in members or not isinstance(members[name].value, dict):
        raise InvalidLine(f"the line must have the object `{name}`", name, code=MISSING)
    for key in members:
        if key not in ENVELOPE_MEMBERS[job_format] and key != name:
            allowed = ", ".join(sorted(ENVELOPE_MEMBERS[job_format] | {name}))
            raise InvalidLine(f"unknown field; a line with `{name}` may have {allowed}", key)
    method = members.get("method")
    if method and method.value not in {"POST", None}:
        raise InvalidLine("must be POST", "method", code="invalid_method")
    try:
        return members, object_members(members[name].value_text), (name,)
    except InvalidJson as error:
        raise InvalidLine(str(error), name, code=INVALID_JSON) from None


def model_of(body: Mapping[str, Member], replacement: str | None, path: tuple[str, ...]) -> str:
    if replacement is not None:
        return replacement
    member = body.get("model")
    if member is None:
        raise InvalidLine(
            "the body has no `model`; add it, or add ?model=NAME to the URL",
            *path,
            "model",
            code=MISSING,
        )
    name = member.value
    if not (isinstance(name, str) and name.strip() and len(name) <= MAX_NAME and _is_text(name)):
        raise InvalidLine(f"must be a string of 1 to {MAX_NAME} characters", *path, "model")
    return name


def request_id_of(envelope: Mapping[str, Member], name: str) -> str | None:
    member = envelope.get(name)
    if member is None or member.value is None:
        return None
    value = member.value
    if not (isinstance(value, str) and len(value) <= MAX_NAME and _is_text(value)):
        raise InvalidLine(f"must be a string of at most {MAX_NAME} characters", name)
    return value


def metadata_of(envelope: Mapping[str, Member]) -> str | None:
    member = envelope.get("metadata")
    if member is None or member.value is None:
        return None
    text = one_line(member.value_text)
    if not isinstance(member.value, dict):
        raise InvalidLine("must be an object", "metadata")
    if not is_strict(text):
        raise InvalidLine(f"must not contain {NOT_STRICT}", "metadata")
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise InvalidLine(f"must have at most {MAX_METADATA_BYTES} bytes", "metadata")
    return text


def cut_body(body: Mapping[str, Member], *, with_model: bool) -> list[str]:
    """Returns the parts of the body's text around the value of `model`: see `ItemRequest.body`.

    A body without `model` gets it as the first field. If `with_model` is false, returns the whole
    text without `model` as the only part, because the model's name is in the URL.
    """
    kept = {name: member for name, member in body.items() if name not in _STREAM_MEMBERS}
    model = kept.get("model")
    if not with_model:
        return ["{" + ",".join(m.text for name, m in kept.items() if name != "model") + "}"]
    if model is None:
        rest = "".join(f",{member.text}" for member in kept.values())
        return ['{"model":', f"{rest}}}"]
    names = list(kept)
    at = names.index("model")
    before = "".join(f"{kept[name].text}," for name in names[:at])
    after = "".join(f",{kept[name].text}" for name in names[at + 1 :])
    return [f"{{{before}{model.name_text}:", f"{after}}}"]


def string_of(members: Mapping[str, Member], name: str) -> str:
    value = members[name].value
    if not isinstance(value, str):
        raise InvalidLine("must be a string", name)
    return value


def is_strict(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_text(text: str) -> bool:
    """Returns whether the text has no lone surrogates, which UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
