"""Combines the built-in rows, `providers.toml` and the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shared.providers.built_in import PROVIDERS
from shared.providers.catalogue import Catalogue
from shared.providers.provider_row import Provider
from shared.providers.provider_settings import ProviderSettings
from shared.providers.routing import nearest_providers
from shared.settings.environment import SettingsError
from shared.settings.general import Settings
from shared.settings.provider_variables import load_provider_settings
from shared.settings.providers_file import ProvidersFile, read_providers_file


@dataclass(frozen=True, slots=True)
class Providers:
    """Holds all that a process knows about providers.

    catalogue: the providers and aliases; each row has the values that apply after all settings.
    settings: by the provider's name; they contain the keys.
    file: what `providers.toml` contains.
    """

    catalogue: Catalogue
    settings: Mapping[str, ProviderSettings]
    file: ProvidersFile

    def missing(self) -> dict[str, str]:
        """Returns, for each provider that cannot be called, the reason and what to do."""
        return {
            name: f"{row.name} {lacks}"
            for name, row in self.catalogue.rows.items()
            if (lacks := self._lacks(row))
        }

    def _lacks(self, row: Provider) -> str:
        advice = f"set {row.needs} for the workers"
        if not row.has_base_url:
            return f"has no base URL: {advice}"
        if row.key_required and self.settings[row.name].key is None:
            return f"has no API key: {advice}"
        return "" if row.name in self.catalogue.configured else f"is not configured: {advice}"


def load_providers(settings: Settings) -> Providers:
    """Returns the providers. Raises SettingsError.

    A time-out or a limit is the first of these that is set: the provider's variable
    (`<NAME>_TIMEOUT`), `providers.toml`, the general setting (`REQUEST_TIMEOUT`), the default of
    the provider's built-in row.
    """
    rows = PROVIDERS
    if "request_timeout" in settings.model_fields_set:
        rows = {name: replace(row, timeout_s=None) for name, row in rows.items()}
    path = settings.providers_file
    file = read_providers_file(path, rows) if path else ProvidersFile(rows)
    providers = combine(file, load_provider_settings(file.rows))
    name = settings.default_provider
    if name is not None and name not in file.rows:
        nearest = nearest_providers(providers.catalogue, name) or sorted(file.rows)
        raise SettingsError(
            f"DEFAULT_PROVIDER: must be the name of a provider, such as {', '.join(nearest)}"
        )
    return providers


def combine(file: ProvidersFile, settings: Mapping[str, ProviderSettings]) -> Providers:
    """Returns the providers of a file, with their settings.

    A provider that is missing in `settings` has the default settings.
    """
    settings = {name: settings.get(name, ProviderSettings()) for name in file.rows}
    rows = {name: _with_settings(row, settings[name]) for name, row in file.rows.items()}
    configured = frozenset(
        name
        for name, row in rows.items()
        if row.has_base_url
        and (
            row.enabled
            or settings[name].key
            or settings[name].base_url
            or "base_url" in file.given.get(name, ())
        )
    )
    return Providers(Catalogue(rows, file.aliases, configured), settings, file)


def _with_settings(row: Provider, settings: ProviderSettings) -> Provider:
    return replace(
        row,
        base_url=settings.base_url or row.base_url,
        timeout_s=settings.timeout or row.timeout_s,
        max_concurrent_requests=settings.max_concurrent_requests or row.max_concurrent_requests,
        rpm=settings.rpm or row.rpm,
        tpm=settings.tpm or row.tpm,
        rpd=settings.rpd or row.rpd,
        adaptive=row.adaptive if settings.adaptive is None else settings.adaptive,
    )
