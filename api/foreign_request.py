"""Converts a line in the format of OpenAI, Anthropic or Gemini to an item.

The body of such a line belongs to the client. Only the model's name is replaced, because the
provider may know the model by another name, and the fields that ask for a stream are left out.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from api.json_members import InvalidJson, Member, object_members, one_line
from api.request_format import (
    BARE_MEMBERS,
    BODY_MEMBER,
    ENVELOPE_MEMBERS,
    ID_MEMBER,
    RequestFormat,
    bare_operation,
    detect,
)
from shared.dialects.dialect import Codec, Operation, Untranslatable
from shared.dialects.dialects import DIALECTS
from shared.dialects.parameters import body_of
from shared.jobs.new_item import NewItem
from shared.models import MAX_NAME
from shared.providers import Catalogue
from shared.providers.routing import RoutingError, Target, route
from shared.queue.item_request import ItemRequest

MAX_METADATA_BYTES = 16 * 1024  # the metadata of 500 items is one field in Redis
MAX_ROUTES = 1000  # limit of the targets that are kept while one job is read
_STREAM_MEMBERS = {"stream", "stream_options"}  # OpenAI refuses stream_options without stream
_REQUIRED = {  # a body needs one of these fields
    Operation.CHAT: ("messages",),
    Operation.RESPONSES: ("input", "prompt"),
    Operation.EMBEDDINGS: ("input",),
    Operation.MESSAGES: ("messages",),
    Operation.GENERATE_CONTENT: ("contents",),
}
_URL = re.compile(r"/(chat/completions|responses|embeddings|messages)$")
_OPERATIONS_BY_URL = {
    "chat/completions": Operation.CHAT,
    "responses": Operation.RESPONSES,
    "embeddings": Operation.EMBEDDINGS,
    "messages": Operation.MESSAGES,
}
_GEMINI_URL = re.compile(r"/models/([^:]+):generateContent(?:\?|$)")
_FORMATS = (
    "a request of this API (`provider`, `model`, `messages`), a line of an OpenAI batch"
    " (`custom_id`, `method`, `url`, `body`), an Anthropic batch (`custom_id`, `params`) or a"
    " Gemini batch (`key`, `request`), or a body with `messages`, `input` or `contents`"
)


class InvalidLine(ValueError):
    """The line cannot be accepted. `path` leads to the field. `str(error)` says what to change."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True)
class ForeignOptions:
    """Holds the query parameters that apply to all requests of a job.

    provider: the provider of all requests; None if the model's name decides.
    model: the model of all requests; None if each body names its model.
    format: the format of all requests; None if the first request decides.
    """

    provider: str | None = None
    model: str | None = None
    format: RequestFormat | None = None


class ForeignRequests:
    """Converts the lines of one job to items."""

    def __init__(
        self, catalogue: Catalogue, default_provider: str | None, options: ForeignOptions
    ) -> None:
        self._catalogue = catalogue
        self._default_provider = default_provider
        self._options = options
        self._targets: dict[str, Target] = {}

    def format_of(self, line: bytes) -> RequestFormat:
        """Returns the format of the job whose first line this is. Raises InvalidLine."""
        if self._options.format is not None:
            return self._options.format
        members = _parse(line)
        found = detect(members)
        if found is None:
            raise _unknown_format(members)
        if found is RequestFormat.OPENAI and "messages" in members and self._is_anthropic(members):
            return RequestFormat.ANTHROPIC
        return found

    def item(self, line: bytes, job_format: RequestFormat) -> NewItem:
        """Returns the item of a line. Raises InvalidLine."""
        members = _parse(line)
        self._check_format(members, job_format)
        envelope, body, path = _open_envelope(members, job_format)
        url = _string(envelope, "url") if "url" in envelope else None
        in_url = _GEMINI_URL.search(url or "")
        replacement = self._options.model or (in_url.group(1) if in_url else None)
        target = self._target(_model(body, replacement, path), path)
        operation = _operation(job_format, url, body, target.model)
        codec = _codec(target, operation, path)
        if not any(name in body for name in _REQUIRED[operation]):
            names = " or ".join(f"`{name}`" for name in _REQUIRED[operation])
            raise InvalidLine(f"a body for {operation} must have {names}", *path)
        parts = _cut(body, with_model=operation is not Operation.GENERATE_CONTENT)
        model = target.provider.model_name(target.model)
        if codec.translate:
            _check_translation(codec, target, parts, path)
        return NewItem(
            request_id=_request_id(envelope, ID_MEMBER[job_format]),
            request=ItemRequest(
                provider=target.provider.name, model=model, operation=operation, body=parts
            ),
            metadata=_metadata(envelope),
            format=job_format,
        )

    def _check_format(self, members: Mapping[str, Member], job_format: RequestFormat) -> None:
        if self._options.format is not None:
            return
        found = detect(members)
        family = {RequestFormat.OPENAI, RequestFormat.ANTHROPIC}
        if found is None:
            raise _unknown_format(members)
        if found is RequestFormat.OPENAI and job_format in family and "messages" in members:
            is_anthropic = self._is_anthropic(members)
            found = RequestFormat.ANTHROPIC if is_anthropic else RequestFormat.OPENAI
        if found is not job_format:
            raise InvalidLine(
                f"the line has the format {found}, but the first line has the format {job_format};"
                " all requests of a job must have the same format"
            )

    def _is_anthropic(self, body: Mapping[str, Member]) -> bool:
        target = self._target(_model(body, self._options.model, ()), ())
        return target.provider.dialect == "anthropic"

    def _target(self, model: str, path: tuple[str, ...]) -> Target:
        found = self._targets.get(model)
        if found is None:
            try:
                found = route(
                    self._catalogue,
                    model,
                    provider=self._options.provider,
                    default_provider=self._default_provider,
                )
            except RoutingError as error:
                raise InvalidLine(str(error), *path, "model") from None
            if len(self._targets) < MAX_ROUTES:
                self._targets[model] = found
        return found


def _parse(line: bytes) -> dict[str, Member]:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise InvalidLine("the line is not UTF-8") from None
    if text.lstrip()[:1] not in {"{", ""}:
        raise InvalidLine(f"the line must be a JSON object: {_FORMATS}")
    try:
        return object_members(text)
    except InvalidJson as error:
        raise InvalidLine(str(error)) from None


def _unknown_format(members: Mapping[str, Member]) -> InvalidLine:
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


def _open_envelope(
    members: Mapping[str, Member], job_format: RequestFormat
) -> tuple[Mapping[str, Member], Mapping[str, Member], tuple[str, ...]]:
    """Returns the members beside the body, the members of the body, and the path to the body."""
    name = BODY_MEMBER.get(job_format)
    if name is None:
        beside = {key: value for key, value in members.items() if key in BARE_MEMBERS}
        return beside, {key: v for key, v in members.items() if key not in BARE_MEMBERS}, ()
    if name not in members or not isinstance(members[name].value, dict):
        raise InvalidLine(f"the line must have the object `{name}`", name)
    for key in members:
        if key not in ENVELOPE_MEMBERS[job_format] and key != name:
            allowed = ", ".join(sorted(ENVELOPE_MEMBERS[job_format] | {name}))
            raise InvalidLine(f"unknown field; a line with `{name}` may have {allowed}", key)
    method = members.get("method")
    if method and method.value not in {"POST", None}:
        raise InvalidLine("must be POST", "method")
    try:
        return members, object_members(members[name].value_text), (name,)
    except InvalidJson as error:
        raise InvalidLine(str(error), name) from None


def _operation(
    job_format: RequestFormat, url: str | None, body: Mapping[str, Member], model: str
) -> Operation:
    if job_format in {RequestFormat.ANTHROPIC, RequestFormat.ANTHROPIC_BATCH}:
        return Operation.MESSAGES
    if job_format in {RequestFormat.GEMINI, RequestFormat.GEMINI_BATCH}:
        if "embed" in model.lower():
            raise InvalidLine(
                "Gemini's embedContent is not supported; send embeddings in OpenAI's format, with"
                " `model` and `input`",
                "model",
            )
        return Operation.GENERATE_CONTENT
    if url is None:
        return bare_operation(body, model)
    if _GEMINI_URL.search(url):
        return Operation.GENERATE_CONTENT
    match = _URL.search(url.partition("?")[0].rstrip("/"))
    if match is None:
        raise InvalidLine(
            "the URL must end in /chat/completions, /responses, /embeddings, /messages or"
            " /models/MODEL:generateContent",
            "url",
        )
    return _OPERATIONS_BY_URL[match.group(1)]


def _codec(target: Target, operation: Operation, path: Iterable[str]) -> Codec:
    spoken = DIALECTS[target.provider.dialect].foreign
    if operation not in spoken:
        known = ", ".join(spoken)
        raise InvalidLine(
            f"{target.provider.name} does not take a body for {operation}, only for {known}; send"
            " another body, or name another provider (?provider=NAME)",
            *path,
        )
    return spoken[operation]


def _model(body: Mapping[str, Member], replacement: str | None, path: tuple[str, ...]) -> str:
    if replacement is not None:
        return replacement
    member = body.get("model")
    if member is None:
        raise InvalidLine(
            "the body has no `model`; add it, or add ?model=NAME to the URL", *path, "model"
        )
    name = member.value
    if not (isinstance(name, str) and name.strip() and len(name) <= MAX_NAME and _is_text(name)):
        raise InvalidLine(f"must be a string of 1 to {MAX_NAME} characters", *path, "model")
    return name


def _request_id(envelope: Mapping[str, Member], name: str) -> str | None:
    member = envelope.get(name)
    if member is None or member.value is None:
        return None
    value = member.value
    if not (isinstance(value, str) and len(value) <= MAX_NAME and _is_text(value)):
        raise InvalidLine(f"must be a string of at most {MAX_NAME} characters", name)
    return value


def _metadata(envelope: Mapping[str, Member]) -> str | None:
    member = envelope.get("metadata")
    if member is None or member.value is None:
        return None
    text = one_line(member.value_text)
    if not isinstance(member.value, dict):
        raise InvalidLine("must be an object", "metadata")
    if not _is_strict(text):
        raise InvalidLine(f"must not contain {_NOT_STRICT}", "metadata")
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise InvalidLine(f"must have at most {MAX_METADATA_BYTES} bytes", "metadata")
    return text


def _cut(body: Mapping[str, Member], *, with_model: bool) -> list[str]:
    """Returns the text of the body without the value of `model`: see `ItemRequest.body`.

    A body without `model` gets it as the first field. If `with_model` is false, the body is one
    part without `model`, because the model's name is in the URL.
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


def _check_translation(
    codec: Codec, target: Target, parts: list[str], path: tuple[str, ...]
) -> None:
    text = '"m"'.join(parts)
    chat: dict[str, Any] = json.loads(text)
    chat.pop("model")
    try:
        translated = body_of(target.provider, codec, target.model, chat)
    except Untranslatable as error:
        raise InvalidLine(
            f"{target.provider.name} cannot take this: {error.reason}", *path, *field_path(error)
        ) from None
    except (LookupError, TypeError, AttributeError, ValueError):
        raise InvalidLine("the body is not a valid chat request", *path) from None
    try:
        orjson.dumps(translated)
    except orjson.JSONEncodeError:
        is_exact = False
    else:
        is_exact = _is_strict(text)
    if not is_exact:
        raise InvalidLine(f"a body that is translated must not contain {_NOT_STRICT}", *path)


def field_path(error: Untranslatable) -> list[str | int]:
    """Returns the parts of the field's path, such as `messages[0].content`."""
    return [int(p) if p.isdecimal() else p for p in re.findall(r"[^.\[\]]+", error.field)]


def _string(members: Mapping[str, Member], name: str) -> str:
    value = members[name].value
    if not isinstance(value, str):
        raise InvalidLine("must be a string", name)
    return value


_NOT_STRICT = (
    "half of a surrogate pair, a number of more than 64 bits, or more than 250 nested arrays and"
    " objects"
)


def _is_strict(text: str) -> bool:
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
