"""Defines the settings, and reads them from the environment, `.env` and `providers.toml`."""

from shared.providers.provider_settings import PROVIDER_SETTINGS, ProviderSettings
from shared.settings.environment import ENV_FILE, SettingsError, variables
from shared.settings.general import (
    MAX_ANSWER_BYTES,
    MAX_QUEUE_BYTES,
    WORKER_MEMORY_BYTES,
    Settings,
    load_settings,
)
from shared.settings.provider_variables import load_provider_settings

__all__ = [
    "ENV_FILE",
    "MAX_ANSWER_BYTES",
    "MAX_QUEUE_BYTES",
    "PROVIDER_SETTINGS",
    "WORKER_MEMORY_BYTES",
    "ProviderSettings",
    "Settings",
    "SettingsError",
    "load_provider_settings",
    "load_settings",
    "variables",
]
