"""Reads `providers.toml`: more providers, changes to the built-in providers, and aliases of models.

A file with a mistake is refused as a whole. Each complaint has a line's number and a reason. No
complaint repeats a value, because the value may be a key.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared.providers.alias_check import AliasCheck
from shared.providers.built_in import WEBHOOK_LANE
from shared.providers.catalogue import Alias
from shared.providers.provider_row import Provider, variable
from shared.providers.provider_settings import PROVIDER_SETTINGS
from shared.providers.toml_lines import line_of, lines_of
from shared.providers.toml_section import (
    NAME,
    AliasSection,
    DeploymentSection,
    ModelSection,
    Section,
)
from shared.settings.environment import SettingsError
from shared.settings.general import Settings

_KEYS = {"api_key", "key", "password", "secret", "token"}
_OTHER_SETTINGS = {name.upper() for name in Settings.model_fields} | {"ORCHESTRATOR_API_KEY"}
_POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

TomlPath = tuple[int | str, ...]
_Table = TypeVar("_Table", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ProvidersFile:
    """Holds the content of a valid file.

    rows: the built-in rows, changed and extended by the file, by the provider's name.
    aliases: by the alias, in lower case.
    given: the fields that each section [providers.NAME] contains, by the provider's name.
    """

    rows: Mapping[str, Provider]
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    given: Mapping[str, frozenset[str]] = field(default_factory=dict)


def read_providers_file(path: Path, rows: Mapping[str, Provider]) -> ProvidersFile:
    """Returns the content of the file, on top of the built-in `rows`. Raises SettingsError."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"PROVIDERS_FILE: can't read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsError(f"{path}, line {line}: the file must be UTF-8") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(_not_toml(path, text, str(error))) from None

    check = _Check()
    content = check.content(document, rows)
    if check.complaints:
        lines = lines_of(text)
        numbered = sorted((line_of(where, lines), reason) for where, reason in check.complaints)
        raise SettingsError(
            "\n".join(f"{path}, line {line}: {reason}" for line, reason in numbered)
        )
    return content


def _not_toml(path: Path, text: str, reason: str) -> str:
    position = _POSITION.search(reason)
    line = (position and position[1]) or len(text.rstrip().split("\n"))
    return f"{path}, line {line}: {_POSITION.sub('', reason)}. The file must be TOML (toml.io)."


class _Check:
    """Collects the complaints about a document: each is a path in the document and a reason."""

    def __init__(self) -> None:
        self.complaints: list[tuple[TomlPath, str]] = []

    def content(self, document: Mapping[str, Any], rows: Mapping[str, Provider]) -> ProvidersFile:
        """Returns the content, which may be used only if there are no complaints."""
        for name in document.keys() - {"providers", "models"}:
            self._unknown((name,), ("providers", "models"))
        sections = {
            name: section.given()
            for name, section in self._tables(document, "providers", Section)
            if self._is_provider_name(name)
        }
        all_rows = dict(rows)
        for name, given in sections.items():
            all_rows[name] = replace(rows.get(name) or _new_row(name, given, rows), **given)
            if not all_rows[name].base_url:
                self._add(("providers", name), "base_url is missing")
        # An alias may name a provider or an alias whose section is wrong: only the section gets a
        # complaint.
        check = AliasCheck(
            rows=all_rows,
            providers=all_rows.keys() | _names(document, "providers"),
            aliases={name.lower() for name in _names(document, "models")},
            add=self._add,
        )
        for name, table in self._tables(document, "models", AliasSection):
            check.section(name, table)
        check.chains()
        aliases = check.found
        given_fields = {name: frozenset(given) for name, given in sections.items()}
        return ProvidersFile(all_rows, aliases, given_fields)

    def _add(self, path: TomlPath, reason: str) -> None:
        self.complaints.append((path, f"{_shown(path)}: {reason}"))

    def _tables(
        self, document: Mapping[str, Any], kind: str, model: type[_Table]
    ) -> Iterator[tuple[str, _Table]]:
        """Yields the names and contents of the valid tables `[kind.NAME]`. Adds the complaints."""
        tables = document.get(kind, {})
        if not isinstance(tables, dict):
            self._add((kind,), f"must be sections [{kind}.NAME]")
            return
        for name, table in tables.items():
            try:
                yield name, model.model_validate(table)
            except ValidationError as error:
                for wrong in error.errors(include_url=False, include_input=False):
                    self._wrong((kind, name, *wrong["loc"]), wrong["type"], wrong["msg"], model)

    def _wrong(self, path: TomlPath, kind: str, message: str, model: type[BaseModel]) -> None:
        match kind:
            case "extra_forbidden":
                self._unknown(path, _known(path, model).model_fields)
            case "model_type":
                self._add(path, "must be a section")
            case "missing":
                self._add(path[:-1], f"{path[-1]} is missing")
            case _:
                message = message.removeprefix("Value error, ")
                self._add(path, re.sub("^(Input|String|List|Value) should", "must", message))

    def _unknown(self, path: TomlPath, known: Iterable[str]) -> None:
        name = str(path[-1])
        if name in _KEYS:
            self._add(path, f"must not be in this file: {_where_keys_are(path)}")
        elif path[2:3] == ("models",) and name in Section.model_fields:
            section = f"[providers.{path[1]}]"
            self._add(path, f"is not a limit of a model; set it in {section} for all models")
        else:
            nearest = get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
            self._add(path, f"is unknown; {hint}")

    def _is_provider_name(self, name: str) -> bool:
        path = ("providers", name)
        taken = {variable(name, setting) for setting in PROVIDER_SETTINGS}
        if not NAME.fullmatch(name):
            self._add(path, "the name must be 1 to 64 of the characters a-z 0-9 -")
        elif name == WEBHOOK_LANE:
            self._add(path, "the name is reserved for the delivery of webhooks")
        elif shared := sorted(taken & _OTHER_SETTINGS):
            self._add(
                path, f"the name cannot be used: {shared[0]} is a setting with another meaning"
            )
        else:
            return True
        return False


def _names(document: Mapping[str, Any], kind: str) -> set[str]:
    tables = document.get(kind)
    return set(tables) if isinstance(tables, dict) else set()


def _known(path: TomlPath, model: type[BaseModel]) -> type[BaseModel]:
    """Returns the pydantic model of the table that contains the last part of the path."""
    if "deployments" in path[:-1]:
        return DeploymentSection
    return ModelSection if model is Section and "models" in path[2:-1] else model


def _new_row(name: str, given: Mapping[str, Any], rows: Mapping[str, Provider]) -> Provider:
    """Returns the row of a new provider before the fields in `given` replace its defaults.

    The defaults come from the built-in provider that has the same name as the dialect.
    """
    like = rows[given.get("dialect", "openai")]
    return Provider(
        name,
        "",
        like.name,
        auth=like.auth,
        headers=like.headers,
        limit_headers=like.limit_headers,
        key_required=False,
    )


def _where_keys_are(path: TomlPath) -> str:
    provider = str(path[1]) if path[0] == "providers" and len(path) > 1 else "<NAME>"
    return (
        f"set {variable(provider, 'api_key')} in the environment or in .env, or name another"
        " variable with api_key_env"
    )


def _shown(path: TomlPath) -> str:
    return ".".join(str(part) if _BARE_KEY.fullmatch(str(part)) else f'"{part}"' for part in path)
