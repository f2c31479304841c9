"""Defines the catalogue: all providers and aliases that an installation knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.providers.built_in import PROVIDERS
from shared.providers.provider_row import Provider


@dataclass(frozen=True, slots=True)
class Deployment:
    """Describes one place that serves the requests for an alias: a provider and a model.

    model: the provider's name for the model.
    weight: share of the requests, compared with the other deployments of the alias.
    """

    provider: str
    model: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Alias:
    """Describes an alias: a short name for a model, which stands for deployments.

    deployments: at least one. Their shares are proportional to their weights.
    fallbacks: what serves a request if the deployments cannot, in this order. Each is a deployment,
        or the name of another alias in lower case. The fallbacks of an alias never lead back to it.
    after_s: seconds for which a request waits for a paused deployment before the request moves on
        to a fallback.
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
