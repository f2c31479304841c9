"""Defines the providers: their rows, their settings and their names."""

from shared.providers.built_in import PROVIDERS, WEBHOOK_LANE
from shared.providers.catalogue import BUILT_IN, Alias, Catalogue, Deployment
from shared.providers.model_limits import ModelLimits
from shared.providers.provider_row import Provider, account, variable

__all__ = [
    "BUILT_IN",
    "PROVIDERS",
    "WEBHOOK_LANE",
    "Alias",
    "Catalogue",
    "Deployment",
    "ModelLimits",
    "Provider",
    "account",
    "variable",
]
