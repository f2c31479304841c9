"""Decides which provider and which model a foreign request is for, from the model's name.

RoutingError
├── UnknownProvider    no provider has this name
└── NoProvider         nothing says which provider serves this model

`str(error)` says how to change the request or the settings. The attributes contain the same facts
as data.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from shared.providers.catalogue import Alias, Catalogue, Deployment
from shared.providers.lanes import alias_lane
from shared.providers.provider_row import Provider

_SIMILARITY = 0.6  # least similarity of a name that is proposed: 0 to 1, as difflib measures it


# Default of `Target.after_s`. It also applies to the fallbacks that a request names.
FALLBACK_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Fallback:
    """Describes where a request goes if its target cannot serve it: to a lane.

    model: the lane's name for the model.
    providers: the providers that may get the request.
    """

    lane: str
    model: str
    providers: tuple[Provider, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Names the provider of a request, and the name that the provider has for the model.

    alias: the alias in lower case, if it has several deployments; otherwise None. With an alias,
        `provider` and `model` are the first deployment, and the queue decides which deployment
        serves the request.
    others: the providers of the other deployments and of the fallbacks.
    fallbacks: what serves the request if the target cannot, in this order.
    after_s: seconds for which the request waits for a provider that does not work, before the
        request moves on to a fallback.
    content_filtered: whether a request that a provider's moderation refused moves on, too.
    """

    provider: Provider
    model: str
    alias: str | None = None
    others: tuple[Provider, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    after_s: float = FALLBACK_AFTER_S
    content_filtered: bool = False


class RoutingError(Exception):
    """The provider of a request cannot be determined."""


class UnknownProvider(RoutingError):
    """No provider has the name `provider`. `nearest` has the most similar names, best first."""

    def __init__(self, catalogue: Catalogue, provider: str) -> None:
        super().__init__(unknown_provider_message(catalogue, provider))
        self.provider = provider
        self.nearest = nearest_providers(catalogue, provider)


class NoProvider(RoutingError):
    """Nothing says which provider serves `model`.

    `unconfigured` is the provider that the model's first segment names, if this provider exists but
    the settings that it needs are missing: see `Provider.needs`. Otherwise it is None.
    """

    def __init__(self, catalogue: Catalogue, model: str) -> None:
        row = catalogue.rows.get(_first_segment(model))
        super().__init__(_no_provider_message(catalogue, model, row))
        self.model = model
        self.unconfigured = row.name if row else None


def route(
    catalogue: Catalogue, model: str, *, provider: str | None, default_provider: str | None
) -> Target:
    """Returns the target of a foreign request.

    `model` is the name in the request. `provider` is the provider that the client named in the URL
    (`?provider=`). The first rule that applies decides:

    1. `provider`: gets the whole name.
    2. An alias: matches the whole name, in upper or lower case.
    3. The name's first segment, before a slash: if it names a configured provider, this provider
       gets the rest. Only one segment is removed, because `openrouter/openai/gpt-x` is OpenRouter's
       `openai/gpt-x`.
    4. `default_provider`: gets the whole name.

    Raises UnknownProvider or NoProvider.
    """
    if provider is not None:
        return Target(find_provider(catalogue, provider), model)
    if alias := catalogue.aliases.get(model.lower()):
        return _alias_target(catalogue, model.lower(), alias)
    first = _first_segment(model)
    if first in catalogue.configured:
        return Target(catalogue.rows[first], model[len(first) + 1 :])
    if default_provider is not None:
        return Target(find_provider(catalogue, default_provider), model)
    raise NoProvider(catalogue, model)


def fallbacks_of(catalogue: Catalogue, names: Iterable[Deployment | str]) -> list[Fallback]:
    """Returns the fallbacks that `names` stands for: deployments, and aliases in lower case.

    The fallbacks of an alias follow directly after the alias. Repetitions are left out.
    """
    found: dict[tuple[str, str], Fallback] = {}
    for name in names:
        if isinstance(name, Deployment):
            steps = [_fallback(catalogue, name)]
        else:
            alias = catalogue.aliases[name]
            providers = tuple(catalogue.rows[d.provider] for d in alias.deployments)
            first = _fallback(catalogue, alias.deployments[0])
            if len(alias.deployments) > 1:
                first = Fallback(alias_lane(name), name, providers)
            steps = [first, *fallbacks_of(catalogue, alias.fallbacks)]
        for step in steps:
            found.setdefault((step.lane, step.model.lower()), step)
    return list(found.values())


def named_fallbacks(catalogue: Catalogue, name: str) -> list[Fallback]:
    """Returns the fallbacks that a client's name stands for: `provider/model` or an alias.

    Raises UnknownProvider or NoProvider.
    """
    if name.lower() in catalogue.aliases:
        return fallbacks_of(catalogue, [name.lower()])
    provider, _, model = name.partition("/")
    if not model:
        raise NoProvider(catalogue, name)
    return [_fallback(catalogue, Deployment(find_provider(catalogue, provider).name, model))]


def _fallback(catalogue: Catalogue, deployment: Deployment) -> Fallback:
    row = catalogue.rows[deployment.provider]
    return Fallback(row.name, row.model_name(deployment.model), (row,))


def _alias_target(catalogue: Catalogue, name: str, alias: Alias) -> Target:
    deployment, *others = alias.deployments
    fallbacks = tuple(fallbacks_of(catalogue, alias.fallbacks))
    providers = [catalogue.rows[other.provider] for other in others]
    providers += [provider for fallback in fallbacks for provider in fallback.providers]
    return Target(
        catalogue.rows[deployment.provider],
        deployment.model,
        name if others else None,
        tuple({row.name: row for row in providers}.values()),
        fallbacks,
        alias.after_s,
        alias.content_filtered,
    )


def find_provider(catalogue: Catalogue, name: str) -> Provider:
    """Returns the row of a provider. Raises UnknownProvider."""
    try:
        return catalogue.rows[name]
    except KeyError:
        raise UnknownProvider(catalogue, name) from None


def nearest_providers(catalogue: Catalogue, name: str) -> list[str]:
    """Returns up to three names of providers that are similar to `name`, the most similar first."""
    # A client chooses the name, and the time of the comparison grows with the name's length.
    return get_close_matches(name.lower()[:64], catalogue.rows, cutoff=_SIMILARITY)


def unknown_provider_message(catalogue: Catalogue, name: str) -> str:
    """Returns a message that names the most similar providers and says how to add a provider.

    If no provider is similar, the message names all providers.
    """
    nearest = nearest_providers(catalogue, name)
    known = f"did you mean {_either(nearest)}?" if nearest else _known(catalogue)
    return (
        f"no provider is named {_shown(name)}; {known}"
        " To add a provider, add a section [providers.NAME] with its base_url to the file that"
        " PROVIDERS_FILE names (providers.toml)."
    )


def _no_provider_message(catalogue: Catalogue, model: str, row: Provider | None) -> str:
    message = f"nothing says which provider serves the model {_shown(model)}."
    if row is not None:
        message += (
            f" The provider '{row.name}' is not configured: set {row.needs}, then restart the API"
            " and the workers."
        )
    configured = ", ".join(sorted(catalogue.configured)) or "none"
    return (
        f"{message} Add ?provider=NAME to the URL, put the provider's name and a slash before the"
        " model's name, add an alias [models.NAME] to providers.toml, or set DEFAULT_PROVIDER."
        f" Configured providers: {configured}."
    )


def _first_segment(model: str) -> str:
    """Returns the part before the first slash; "" if there is no slash, or no text after it."""
    first, _, rest = model.partition("/")
    return first if rest else ""


def _known(catalogue: Catalogue) -> str:
    return f"the known providers are {', '.join(sorted(catalogue.rows))}."


def _either(names: Iterable[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)


def _shown(name: str) -> str:
    """Returns `name` in quotes, shortened, because it may have any length."""
    limit = 100
    return f"'{name}'" if len(name) <= limit else f"'{name[:limit]}…'"
