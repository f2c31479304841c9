"""Defines the catalogue: all providers and aliases that a deployment knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.providers.built_in import PROVIDERS
from shared.providers.row import Provider


@dataclass(frozen=True, slots=True)
class Alias:
    """The target of a short name for a model: a provider, and the provider's name for the model."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The providers and aliases of a deployment.

    rows: by the provider's name; the built-in rows, changed and extended by `providers.toml`.
    aliases: by the alias.
    configured: names of the providers that have a key or a base URL of their own, and of those that
        need neither.
    """

    rows: Mapping[str, Provider]
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    configured: frozenset[str] = frozenset()


BUILT_IN = Catalogue(PROVIDERS, configured=frozenset({"ollama"}))
