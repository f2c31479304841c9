"""Tests how the overview shows lanes that several deployments serve."""

from datetime import timedelta
from typing import Any

from support.overview import AT, lane, unhealthy

from shared.monitoring.deployment_notices import deployment_notices
from shared.monitoring.deployment_pools import with_pools
from shared.monitoring.models import Lane
from shared.providers.lanes import alias_lane
from shared.queue.capacity import Limits, Rules, ServedBy

FAST = alias_lane("fast one")
LIMITS = Limits(
    {},
    {"a": Rules(rpm=60), "b": Rules()},
    {
        "a": [ServedBy("a"), ServedBy("a#2")],
        FAST: [ServedBy("a", "Big/M"), ServedBy("a#2", "Big/M"), ServedBy("b", "s")],
    },
)
RULES: dict[str, Any] = {
    "a": {"rpm": 60, "keys": 2},
    "fast one": {"deployments": ["a/big/m", "b/s"]},
}


def shown(*lanes: Lane) -> dict[str, Lane]:
    return {one.name: one for one in with_pools(AT, lanes, [RULES])}


def names(one: Lane) -> list[str]:
    return [deployment.name for deployment in one.deployments]


def test_a_worker_reports_keys_and_deployments() -> None:
    assert LIMITS.shown_rules == {"a": RULES["a"], FAST: RULES["fast one"]}


def test_a_provider_is_not_paused_while_one_of_its_keys_works() -> None:
    down = [unhealthy("a"), unhealthy("a/m"), unhealthy("a#2/m")]
    until = AT + timedelta(seconds=30)
    given = lane(name="a", deployments=down, paused_until=until, paused_because="answered 401")

    found = shown(given)["a"]

    assert names(found) == ["a#1", "a#1/m", "a#2/m"]
    assert (found.paused_until, found.paused_because) == (None, None)


def test_a_provider_is_paused_if_none_of_its_keys_works() -> None:
    given = lane(
        name="a",
        deployments=[unhealthy("a"), unhealthy("a#2")],
        paused_until=AT + timedelta(seconds=30),
        paused_because="answered 401",
    )

    assert shown(given) == {"a": given}


def test_an_alias_is_paused_if_all_of_its_deployments_are() -> None:
    fast = lane(name="fast one", queued=2)
    a = lane(name="a", deployments=[unhealthy("a"), unhealthy("a#2")])
    part = lane(name="a", deployments=[unhealthy("a")])
    b = lane(name="b", deployments=[unhealthy("b/s", next_s=10, because="answered 429")])

    found = shown(fast, a, b)["fast one"]

    assert found.paused_until == AT + timedelta(seconds=10)
    assert found.paused_because == "b/s answered 429"
    [notice] = deployment_notices(AT, found)
    assert notice.text == (
        "fast one is paused until 03:04:15 UTC, because all of its deployments are paused or do not"
        " work: b/s answered 429. 2 requests are waiting, counted over all jobs."
    )
    assert shown(fast, part, b)["fast one"].paused_until is None
    assert shown(fast, a, lane(name="b"))["fast one"].paused_until is None


def test_the_variable_of_a_key_is_named() -> None:
    texts = [
        notice.text
        for name in ("my-gpu#1", "my-gpu#2")
        for notice in deployment_notices(
            AT, lane(name="my-gpu", deployments=[unhealthy(name, verdict="unauthorized")])
        )
    ]

    assert "Check MY_GPU_API_KEY, and" in texts[0]
    assert "Check MY_GPU_API_KEY_2, and" in texts[1]
