"""Defines the settings with which the simulator replaces all providers."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from shared.providers import Provider, variable


def simulated_environment(url: str, rows: Mapping[str, Provider]) -> dict[str, str]:
    """Returns the environment variables that send every provider's calls to the simulator at `url`.

    The simulator answers 404 to the calls of a dialect that it does not support. No call reaches
    the real API.
    """
    environment = {}
    for row in rows.values():
        environment[variable(row.name, "base_url")] = url + urlsplit(row.base_url).path
        environment[variable(row.name, "api_key")] = "simulated"
    return environment
