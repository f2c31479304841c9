"""Tests that one provider fails in each possible way while another works."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from support.invariants import verify
from support.ledger import Call, ledger, now_ms
from support.load import Load
from support.search_depth import FULL
from support.stack import Start

from cli.simulator.chat import item_of

pytestmark = pytest.mark.chaos

LIMIT = 5
HEALTHY = {"latency_ms": 100}
SETTINGS = {
    "MAX_CONCURRENT_REQUESTS": str(LIMIT),
    "LEASE_SECONDS": "15",
    "REQUEST_TIMEOUT": "1",
    "MAX_RETRIES": "1",
}
LATE_MS = 200 if FULL else 700  # calls may begin that were claimed before the refusal was known
WATCHED_S = 2.5  # duration of each of the two measurements: before the fault and during the fault


def occupied(calls: Sequence[Call], dialect: str, start_ms: float, end_ms: float) -> float:
    """Returns the share of its slots that a lane used, from 0 to 1."""
    used_ms = sum(
        max(0.0, min(call.end_ms or end_ms, end_ms) - max(call.start_ms, start_ms))
        for call in calls
        if call.dialect == dialect
    )
    return used_ms / (LIMIT * (end_ms - start_ms))


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        # The items wait, and none fails.
        ({"rate_429": 1, "retry_after": "1"}, set()),
        ({"rate_503": 1, "retry_after": "1"}, set()),
        # Items whose attempts are used up before the provider counts as not working may fail.
        ({"rate_503": 1}, {"provider_error"}),
        ({"rate_hang": 1}, {"timeout"}),
        ({"rate_drip": 1}, {"timeout"}),
        ({"rate_drop": 1}, {"connection_error"}),
        ({"rate_half": 1}, {"connection_error"}),
        # Bad answers always count, and those that are too large are final.
        (
            {"rate_garbage": 0.3, "rate_html": 0.3, "rate_huge": 0.4},
            {"bad_response", "answer_too_large"},
        ),
    ],
)
async def test_a_provider_in_trouble_harms_nobody_else(
    stack: Start, fault: dict[str, Any], codes: set[str]
) -> None:
    """The items of the failing provider fail with the expected codes only, or wait until it works
    again. The lane's limit holds, and each item reports the true number of its calls. The other
    lane uses its slots as much as before, and no item in it fails."""
    deployment = await stack(workers=2, **SETTINGS)
    await deployment.simulate(**HEALTHY)
    good = Load(deployment, provider="ollama")
    bad, healed = Load(deployment, name="bad "), Load(deployment, name="healed ")
    async with good.steady():
        before_ms = now_ms()
        await asyncio.sleep(WATCHED_S)
        await deployment.simulate(by_dialect={"openai": {**HEALTHY, **fault}, "ollama": HEALTHY})
        fault_ms = now_ms()
        async with bad.steady(clients=1, after=0):
            await asyncio.sleep(WATCHED_S)
            over_ms = now_ms()
            await deployment.simulate(**HEALTHY)
        async with healed.steady():
            pass

    calls = await ledger(deployment)
    usual = occupied(calls, "ollama", before_ms, fault_ms)
    # Another program may take the processor away for a part of a short run.
    assert occupied(calls, "ollama", fault_ms, over_ms) > (0.75 if FULL else 0.25) * usual
    errors = {
        content: response["error_code"]
        for job_id, contents in bad.jobs.items()
        for content, response in zip(contents, bad.answers[job_id]["responses"], strict=True)
        if response["error"]
    }
    assert set(errors.values()) <= codes
    if "retry_after" in fault:
        refused_ms = [call.end_ms for call in calls if call.outcome in {429, 503}]
        starts_ms = [call.start_ms for call in calls if call.dialect == "openai"]
        assert starts_ms
        assert not any(
            LATE_MS < start - end < 950 for start in starts_ms for end in refused_ms if end
        )
    # A request is sent again on a new connection if the provider has closed the old one.
    sent_again = "rate_drop" in fault
    may_repeat = {item_of(c) for contents in bad.jobs.values() for c in contents if sent_again}
    await verify(deployment, good, bad, healed, limit=LIMIT, failed=errors, may_repeat=may_repeat)
