"""Checks the aliases of `providers.toml`: `[models.NAME]`."""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches

from shared.providers.catalogue import Alias, Deployment
from shared.providers.provider_row import Provider
from shared.providers.toml_section import (
    MAX_FALLBACK_ROUTES,
    MAX_MODEL_LENGTH,
    AliasSection,
    too_many_fallbacks,
)

TomlPath = tuple[int | str, ...]


class AliasCheck:
    """Collects the aliases in `found`, by their names in lower case.

    rows: the rows of the providers, by name.
    providers: the names of all providers, even if their sections in the file are wrong.
    aliases: the names of all aliases in lower case, even if their sections are wrong.
    add: is called for each mistake, with the path in the file and what is wrong there.
    """

    def __init__(
        self,
        *,
        rows: Mapping[str, Provider],
        providers: Collection[str],
        aliases: Collection[str],
        add: Callable[[TomlPath, str], None],
    ) -> None:
        self.found: dict[str, Alias] = {}
        self._rows = rows
        self._providers = providers
        self._aliases = aliases
        self._add = add
        self._names: dict[str, str] = {}  # as they are written, by the names in lower case

    def section(self, name: str, section: AliasSection) -> None:
        path = ("models", name)
        self._check_name(name)
        deployments: list[Deployment] = []
        for given in section.deployments:
            row = self._rows.get(given.provider)
            weight = given.weight or (row.weight if row else 1)
            if given.provider not in self._providers:
                hint = _hint(given.provider, self._providers)
                self._add((*path, "deployments"), f"no provider has this name{hint}")
            deployment = Deployment(given.provider, given.model, weight)
            if any(_same(deployment, other) for other in deployments):
                self._add((*path, "deployments"), "a deployment appears twice; use weight instead")
            deployments.append(deployment)
        self.found[name.lower()] = Alias(
            tuple(deployments),
            self._fallbacks((*path, "fallbacks"), section.fallbacks, deployments),
            section.after_s,
            section.content_filtered,
        )
        self._names[name.lower()] = name

    def _check_name(self, name: str) -> None:
        path = ("models", name)
        first, slash, _ = name.partition("/")
        if not name.strip() or len(name) > MAX_MODEL_LENGTH:
            self._add(path, f"the alias must have 1 to {MAX_MODEL_LENGTH} characters")
        elif slash and first.lower() in self._providers:
            self._add(path, "an alias must not begin with a provider's name and a slash")
        elif name.lower() in self.found:
            self._add(path, "the alias exists already; upper and lower case make no difference")

    def _fallbacks(
        self, path: TomlPath, names: list[str], deployments: list[Deployment]
    ) -> tuple[Deployment | str, ...]:
        fallbacks: list[Deployment | str] = []
        for number, name in enumerate(names):
            fallback = self._fallback(name)
            if fallback is None:
                hint = _hint(name.partition("/")[0], [*self._aliases, *self._providers])
                self._add((*path, number), f"must be PROVIDER/MODEL or an alias{hint}")
            elif any(_same(fallback, other) for other in (*deployments, *fallbacks)):
                self._add((*path, number), "appears twice among the deployments and fallbacks")
            else:
                fallbacks.append(fallback)
        return tuple(fallbacks)

    def _fallback(self, name: str) -> Deployment | str | None:
        if name.lower() in self._aliases:
            return name.lower()
        provider, _, model = name.partition("/")
        return Deployment(provider, model) if model and provider in self._providers else None

    def chains(self) -> None:
        """Reports each alias whose fallbacks lead back to it, or that has too many fallbacks.

        If a fallback is an alias, the fallbacks of this alias count, too.
        """
        for name in self.found:
            path = ("models", self._names[name], "fallbacks")
            if trail := self._way_back(name):
                names = " → ".join(self._names[step] for step in trail)
                self._add(path, f"the fallbacks lead back to the alias: {names}")
            elif (count := len(self._all_fallbacks(name))) > MAX_FALLBACK_ROUTES:
                self._add(path, too_many_fallbacks(count))

    def _all_fallbacks(self, name: str) -> set[tuple[str, str]]:
        """Returns the routes that follow an alias, as `fallbacks_of` in routing.py lists them."""
        found: set[tuple[str, str]] = set()
        left, seen = [name], {name}
        while left:
            for step in self.found[left.pop()].fallbacks:
                if isinstance(step, Deployment):
                    found.add((step.provider, step.model.lower()))
                elif step in self.found and step not in seen:
                    seen.add(step)
                    left.append(step)
                    first, *others = self.found[step].deployments
                    is_one = not others
                    found.add((first.provider, first.model.lower()) if is_one else ("", step))
        return found

    def _way_back(self, start: str) -> list[str]:
        """Returns the shortest way from an alias to itself, or [] if there is none."""
        trails = deque([[start]])
        seen = set()
        while trails:
            trail = trails.popleft()
            for name in self.found[trail[-1]].fallbacks:
                if name == start:
                    return [*trail, start]
                if isinstance(name, str) and name in self.found and name not in seen:
                    seen.add(name)
                    trails.append([*trail, name])
        return []


def _same(one: Deployment | str, other: Deployment | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return (one.provider, one.model.lower()) == (other.provider, other.model.lower())


def _hint(name: str, known: Collection[str]) -> str:
    nearest = get_close_matches(name, known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
