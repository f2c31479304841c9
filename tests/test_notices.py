"""Tests the notices: sentences that explain why something is slow or fails."""

import pytest
from support.notice_cases import BUSY, NOTICE_CASES, WORKER, model, said
from support.overview import AT, IDLE

from shared.monitoring.models import Lane, Notice, Severity, WorkerView
from shared.monitoring.notices import notices


@pytest.mark.parametrize(("seen", "workers", "expected"), NOTICE_CASES)
def test_each_notice(seen: Lane, workers: list[WorkerView], expected: list[Notice]) -> None:
    assert notices(AT, [seen], workers) == expected


def test_workers_with_different_rates_are_named() -> None:
    others = [WORKER.model_copy(update={"worker_id": f"other:{number}"}) for number in range(2)]
    rules = {worker.worker_id: {"openrouter": {"rpm": 600}} for worker in others}

    assert notices(AT, [IDLE], [WORKER, *others], rules) == [
        said(
            Severity.WARNING,
            "openrouter: the workers have different limits, numbers of keys or deployments;"
            f" {WORKER.worker_id} differs from the others. Give all workers the same settings and"
            " PROVIDERS_FILE. `orchestrator limits` shows the limits.",
        )
    ]
    assert notices(AT, [IDLE], [WORKER, *others], {}) == []


def test_the_most_severe_notice_comes_first() -> None:
    lanes = [BUSY, model(10, provider_error=10), model(10, timeout=6)]

    found = [notice.severity for notice in notices(AT, lanes, [WORKER])]

    assert found == [Severity.ERROR, Severity.WARNING, Severity.INFO]
