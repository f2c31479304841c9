"""Finds variables that look like settings but are none: probably misspelled names."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

import structlog
from dotenv import dotenv_values

from shared.providers import Provider, variable
from shared.providers.provider_row import MAX_KEYS
from shared.providers.provider_settings import PROVIDER_SETTINGS
from shared.settings.environment import ENV_FILE
from shared.settings.general import Settings

SIMILARITY = 0.85  # of 1; DATADIR and DATA_DIR have 0.93, OTLP_ENDPOINT and SENTRY_ENDPOINT 0.64
CLIENT_VARIABLES = ("ORCHESTRATOR_URL", "ORCHESTRATOR_API_KEY")
# _API_KEY is not in the list, because other programs have variables that end in _API_KEY, too.
_OURS = ("_base_url", "_max_concurrent_requests")
_KEY_NUMBER = re.compile(r"[1-9][0-9]?")
# `orchestrator up` sets this variable for its processes, because it has reported the names itself.
REPORTED = "UNKNOWN_SETTINGS_REPORTED"

log = structlog.get_logger()


def log_unknown_settings(rows: Mapping[str, Provider]) -> None:
    if REPORTED not in os.environ:
        for advice in unknown_settings(os.environ, rows):
            log.warning("unknown_setting", advice=advice)


def unknown_settings(environment: Mapping[str, str], rows: Mapping[str, Provider]) -> list[str]:
    """Returns advice for each variable that is not a setting, but looks like a setting.

    Such a name resembles the name of a setting, or is `<NAME>_BASE_URL` or
    `<NAME>_MAX_CONCURRENT_REQUESTS` of a provider that does not exist.

    environment: the variables, in addition to the variables of `.env`. rows: all providers.
    """
    names = {*map(str.upper, environment), *map(str.upper, dotenv_values(ENV_FILE))}
    return [
        f"{name} is not a setting, and has no effect. {advice}"
        for name, advice in sorted(_suspicious(names, rows))
    ]


def known_settings(rows: Mapping[str, Provider]) -> set[str]:
    return {
        *map(str.upper, Settings.model_fields),
        *CLIENT_VARIABLES,
        *(variable(name, field) for name in rows for field in PROVIDER_SETTINGS),
        *(name for row in rows.values() for name in row.key_variables),
    }


def _is_further_key(name: str, rows: Mapping[str, Provider]) -> bool:
    """Returns whether `name` is the variable of a further key, such as OPENAI_API_KEY_2."""
    first, _, number = name.rpartition("_")
    if not _KEY_NUMBER.fullmatch(number) or not 1 < int(number) <= MAX_KEYS:
        return False
    return any(first in row.key_variables for row in rows.values())


def _suspicious(names: set[str], rows: Mapping[str, Provider]) -> Iterator[tuple[str, str]]:
    known = known_settings(rows)
    missing = known - names  # a setting that is set is not meant by another name
    for name in names - known:
        if _is_further_key(name, rows):
            continue
        if nearest := _nearest(name, missing):
            yield name, f"Did you mean {nearest}?"
        elif ending := next((end for end in _OURS if name.endswith(end.upper())), None):
            provider = name.removesuffix(ending.upper())
            if provider:
                providers = ", ".join(rows)
                advice = (
                    f"There is no provider {provider.lower()}; add it to the file that"
                    f" PROVIDERS_FILE names. The providers: {providers}."
                )
                yield name, advice


def _nearest(name: str, missing: Iterable[str]) -> str | None:
    """Returns the setting that `name` resembles, or None.

    The part after a provider's name must be equal, because keys of different services have similar
    names.
    """
    for field in PROVIDER_SETTINGS:
        ending = variable("", field)
        if name.endswith(ending):
            provider = name.removesuffix(ending)
            same = [other.removesuffix(ending) for other in missing if other.endswith(ending)]
            found = get_close_matches(provider, same, 1, SIMILARITY)
            if found:
                return found[0] + ending
            if ending == variable("", "api_key"):
                return None
    return next(iter(get_close_matches(name, missing, 1, SIMILARITY)), None)
