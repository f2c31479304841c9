"""Sets how the tests that try random histories are run."""

from hypothesis import HealthCheck, Phase, settings

from support.search_depth import examples


def histories(usual: int, *, full: int) -> settings:
    """Returns the settings for a number of histories, which are the same in each run."""
    return settings(
        max_examples=examples(usual, full=full),
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
