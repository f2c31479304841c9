"""Combines rows of providers with settings, as a process does."""

from collections.abc import Mapping

from shared.providers import Provider
from shared.settings import ProviderSettings
from shared.settings.providers import Providers, combine
from shared.settings.providers_file import ProvidersFile
from worker.providers.endpoint import Endpoint, endpoint


def combined(rows: Mapping[str, Provider], settings: Mapping[str, ProviderSettings]) -> Providers:
    return combine(ProvidersFile(rows), settings)


def endpoint_of(row: Provider, settings: ProviderSettings) -> Endpoint:
    providers = combined({row.name: row}, {row.name: settings})
    return endpoint(providers.catalogue.rows[row.name], settings, timeout_s=30)
