"""Tests which deployments of a lane the state of the whole provider covers."""

import pytest
from support.overview import lane, unhealthy

import orchestrator_client
from shared.monitoring.account_state import account_of, not_covered
from shared.monitoring.models import DeploymentState, UnhealthyDeployment

PAUSED, PROBING = DeploymentState.PAUSED, DeploymentState.PROBING


def one(name: str, state: DeploymentState, next_s: float) -> UnhealthyDeployment:
    return unhealthy(name, state, next_s=next_s, verdict="overloaded", because="answered 503")


SOON, LATER = one("openrouter/a", PAUSED, 5), one("openrouter/b", PAUSED, 60)
BROKEN = one("openrouter/c", PROBING, 5)


@pytest.mark.parametrize(
    ("account", "shown"),
    [
        (None, ["openrouter/a", "openrouter/b", "openrouter/c"]),
        (one("openrouter", PROBING, 1), ["openrouter"]),
        (one("openrouter", PAUSED, 5), ["openrouter", "openrouter/b", "openrouter/c"]),
        (one("openrouter", PAUSED, 60), ["openrouter", "openrouter/c"]),
    ],
)
def test_the_state_of_the_provider_covers_what_ends_no_later(
    account: UnhealthyDeployment | None, shown: list[str]
) -> None:
    known = lane(deployments=[*filter(None, [account]), SOON, LATER, BROKEN])
    received = orchestrator_client.Lane.model_validate_json(known.model_dump_json())

    assert account_of(known) == account
    assert [deployment.name for deployment in not_covered(known)] == shown
    assert [deployment.name for deployment in not_covered(received)] == shown
