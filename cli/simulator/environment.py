"""Defines the settings with which the simulator replaces all providers."""

from urllib.parse import urlsplit

from cli.simulator.dialects import DIALECTS
from shared.providers import PROVIDERS, variable


def simulated_environment(url: str) -> dict[str, str]:
    """Returns the environment variables that send every provider's calls to the simulator at `url`.

    Raises ValueError if the simulator does not support the dialect of a provider, because calls to
    this provider would reach the real API.
    """
    environment = {}
    for row in PROVIDERS.values():
        if row.dialect not in DIALECTS:
            raise ValueError(
                f"the simulator does not support the dialect {row.dialect}, which {row.name} uses"
            )
        environment[variable(row.name, "base_url")] = url + urlsplit(row.base_url).path
        environment[variable(row.name, "api_key")] = "simulated"
    return environment
