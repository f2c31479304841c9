"""Defines the catalogue: all providers and aliases that a deployment knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.providers.built_in import PROVIDERS
from shared.providers.provider_row import Provider


@dataclass(frozen=True, slots=True)
class Deployment:
    """Serves requests: a provider, and the provider's name for the model.

    weight: share of the requests, compared with the other deployments of the alias.
    """

    provider: str
    model: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Alias:
    """Says which deployments a short name for a model stands for.

    deployments: at least one. Their shares are proportional to their weights.
    fallbacks: what serves a request after them, in this order: a deployment, or the name of another
        alias in lower case. No alias leads back to itself.
    after_s: how long a request waits for a deployment that is paused, before it moves on.
    content_filtered: whether a request that a provider's moderation refused moves on, too.
    """

    deployments: tuple[Deployment, ...]
    fallbacks: tuple[Deployment | str, ...] = ()
    after_s: float = 60.0
    content_filtered: bool = False


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Holds the providers and aliases of an installation.

    rows: by the provider's name; the built-in rows, changed and extended by `providers.toml`.
    aliases: by the alias, in lower case.
    configured: names of the providers that have the settings that they need: see `Provider.needs`.
    """

    rows: Mapping[str, Provider]
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    configured: frozenset[str] = frozenset()


BUILT_IN = Catalogue(PROVIDERS, configured=frozenset({"ollama"}))
