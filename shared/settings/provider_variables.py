"""Reads the settings of the providers from their variables, such as `OPENROUTER_API_KEY`."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from shared.providers import PROVIDERS, Provider, variable
from shared.providers.provider_row import MAX_KEYS
from shared.providers.provider_settings import PROVIDER_SETTINGS, ProviderSettings
from shared.settings.environment import SettingsError, settings_error, variables


def load_provider_settings(
    rows: Mapping[str, Provider] = PROVIDERS,
) -> dict[str, ProviderSettings]:
    """Returns the settings of each provider by the provider's name. Raises SettingsError."""
    found = variables()
    return {name: _provider_settings(row, found) for name, row in rows.items()}


def _provider_settings(row: Provider, found: Mapping[str, str | None]) -> ProviderSettings:
    names = {setting: variable(row.name, setting) for setting in PROVIDER_SETTINGS}
    keys = _keys(row, found)
    if 1 in keys:
        names["api_key"] = keys[1]
    values: dict[str, Any] = {
        setting: value
        for setting, name in names.items()
        if (value := found.get(name.lower())) is not None
    }
    more = {number: name for number, name in keys.items() if number > 1}
    if more:
        values["more_api_keys"] = {number: found[name.lower()] for number, name in more.items()}
    try:
        settings = ProviderSettings.model_validate(values)
    except ValidationError as error:
        raise settings_error(error, names, more) from None
    _refuse_equal_keys(settings, keys)
    return settings


def _keys(row: Provider, found: Mapping[str, str | None]) -> dict[int, str]:
    """Returns, by the number of each key of a provider, the name of the key's variable."""
    keys = {}
    for number in range(1, MAX_KEYS + 1):
        for name in row.variables_of_key(number):
            if (found.get(name.lower()) or "").strip():
                keys[number] = name
                break
    return keys


def _refuse_equal_keys(settings: ProviderSettings, names: Mapping[int, str]) -> None:
    """Raises SettingsError if two keys are equal, because the key's limits would apply twice."""
    seen: dict[str, str] = {}
    for number, key in settings.keys.items():
        if key in seen:
            raise SettingsError(f"{names[number]}: must differ from {seen[key]}")
        seen[key] = names[number]
