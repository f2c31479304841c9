"""Converts lines in the format of OpenAI, Anthropic or Gemini to items."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from api.requests.formats import ID_MEMBER, RequestFormat, bare_operation, detect
from api.requests.json_members import Member
from api.requests.vendor_line import (
    MISSING,
    MODEL_NOT_FOUND,
    NOT_STRICT,
    InvalidLine,
    cut_body,
    is_strict,
    metadata_of,
    model_of,
    open_envelope,
    parse_line,
    request_id_of,
    string_of,
    unknown_format,
)
from shared.dialects.dialect import Codec, Operation, Untranslatable
from shared.dialects.dialects import DIALECTS
from shared.jobs.new_item import NewItem, chain_of
from shared.providers import Catalogue, Provider
from shared.providers.parameters import body_of
from shared.providers.routing import RoutingError, Target, route
from shared.queue.item_request import ItemRequest

MAX_KEPT_TARGETS = 1000  # limit of the targets that are kept while one job is read
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


@dataclass(frozen=True, slots=True)
class VendorOptions:
    """Holds what applies to all requests of a job: query parameters, and `required`.

    provider: the provider of all requests; None if the model's name or DEFAULT_PROVIDER decides.
    model: the model of all requests; None if each body names its model.
    format: the format of all requests; None if the first request decides.
    required: the members that each line must have, as OpenAI's batch API demands.
    """

    provider: str | None = None
    model: str | None = None
    format: RequestFormat | None = None
    required: tuple[str, ...] = ()


# If the job has one of these formats (None while its first line is read), the provider decides
# whether a body with `messages` and without an envelope has OpenAI's or Anthropic's format.
_BARE_CHAT = {None, RequestFormat.OPENAI, RequestFormat.ANTHROPIC}


class UnknownModel(InvalidLine):
    """Nothing says which provider serves the model, or no provider has the given name."""


class VendorRequests:
    """Converts the lines of one job to items."""

    def __init__(
        self, catalogue: Catalogue, default_provider: str | None, options: VendorOptions
    ) -> None:
        self._catalogue = catalogue
        self._default_provider = default_provider
        self._options = options
        self._targets: dict[str, Target] = {}

    def format_of(self, line: bytes) -> RequestFormat:
        """Returns the format of the job whose first line is `line`. Raises InvalidLine."""
        if self._options.format is not None:
            return self._options.format
        return self._detect(parse_line(line))

    def item(self, line: bytes, job_format: RequestFormat) -> NewItem:
        """Returns the item of a line. Raises InvalidLine."""
        members = parse_line(line)
        self._check_format(members, job_format)
        for name in self._options.required:
            if name not in members:
                raise InvalidLine(f"the line has no `{name}`", name, code=MISSING)
        envelope, body, path = open_envelope(members, job_format)
        url = string_of(envelope, "url") if "url" in envelope else None
        in_url = _GEMINI_URL.search(url or "")
        replacement = self._options.model or (in_url.group(1) if in_url else None)
        target = self._target(model_of(body, replacement, path), path)
        operation = _operation(job_format, url, body, target.model)
        return NewItem(
            request_id=request_id_of(envelope, ID_MEMBER[job_format]),
            request=_request(target, operation, body, path),
            metadata=metadata_of(envelope),
            format=job_format,
        )

    def live_call(self, body: Mapping[str, Member], operation: Operation) -> NewItem:
        """Returns the item of a call, whose body was sent to an endpoint of OpenAI's API.

        All members belong to the body, even `metadata`. Raises InvalidLine.
        """
        target = self._target(model_of(body, self._options.model, ()), ())
        request = _request(target, operation, body, ())
        return NewItem(request_id=None, request=request, format=RequestFormat.OPENAI)

    def _check_format(self, members: Mapping[str, Member], job_format: RequestFormat) -> None:
        if self._options.format is not None:
            return
        found = self._detect(members, job_format)
        if found is not job_format:
            raise InvalidLine(
                f"the line has the format {found}, but the first line has the format {job_format};"
                " all requests of a job must have the same format"
            )

    def _detect(
        self, members: Mapping[str, Member], job_format: RequestFormat | None = None
    ) -> RequestFormat:
        """Returns the format of a line. `job_format` is None for the first line of a job.

        Raises InvalidLine.
        """
        found = detect(members)
        if found is None:
            raise unknown_format(members)
        if found is RequestFormat.OPENAI and "messages" in members and job_format in _BARE_CHAT:
            return RequestFormat.ANTHROPIC if self._is_anthropic(members) else found
        return found

    def _is_anthropic(self, body: Mapping[str, Member]) -> bool:
        target = self._target(model_of(body, self._options.model, ()), ())
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
                raise UnknownModel(str(error), *path, "model", code=MODEL_NOT_FOUND) from None
            if len(self._targets) < MAX_KEPT_TARGETS:
                self._targets[model] = found
        return found


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
            code="invalid_url",
        )
    return _OPERATIONS_BY_URL[match.group(1)]


def _request(
    target: Target, operation: Operation, body: Mapping[str, Member], path: tuple[str, ...]
) -> ItemRequest:
    if not any(name in body for name in _REQUIRED[operation]):
        names = " or ".join(f"`{name}`" for name in _REQUIRED[operation])
        raise InvalidLine(f"a body for {operation} must have {names}", *path, code=MISSING)
    parts = cut_body(body, with_model=operation is not Operation.GENERATE_CONTENT)
    for provider in (target.provider, *target.others):
        codec = _codec(provider, operation, path)
        if codec.translate:
            _check_translation(codec, provider, target.model, parts, path)
    request = ItemRequest(
        provider=target.provider.name,
        model=target.provider.model_name(target.model),
        operation=operation,
        body=parts,
    )
    if target.alias is not None:
        request["alias"] = target.alias
    if chain := chain_of(target):
        request["chain"] = chain
    return request


def _codec(provider: Provider, operation: Operation, path: Iterable[str]) -> Codec:
    spoken = DIALECTS[provider.dialect].foreign
    if operation not in spoken:
        known = ", ".join(spoken)
        raise InvalidLine(
            f"{provider.name} does not take a body for {operation}, only for {known}; send"
            " another body, or name another provider (?provider=NAME)",
            *path,
        )
    return spoken[operation]


def _check_translation(
    codec: Codec, provider: Provider, model: str, parts: list[str], path: tuple[str, ...]
) -> None:
    text = '"m"'.join(parts)
    chat: dict[str, Any] = json.loads(text)
    chat.pop("model")
    try:
        translated = body_of(provider, codec, model, chat)
    except Untranslatable as error:
        raise InvalidLine(
            f"{provider.name} cannot take this: {error.reason}", *path, *field_path(error)
        ) from None
    except (LookupError, TypeError, AttributeError, ValueError):
        raise InvalidLine("the body is not a valid chat request", *path) from None
    try:
        orjson.dumps(translated)
    except orjson.JSONEncodeError:
        is_exact = False
    else:
        is_exact = is_strict(text)
    if not is_exact:
        raise InvalidLine(
            f"the body is translated for {provider.name}, so it must not contain {NOT_STRICT}",
            *path,
        )


def field_path(error: Untranslatable) -> list[str | int]:
    """Returns the path of the field: `["messages", 0, "content"]` for `messages[0].content`."""
    return [int(p) if p.isdecimal() else p for p in re.findall(r"[^.\[\]]+", error.field)]
