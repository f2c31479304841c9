"""Tests that invented names of models do not replace the names of other owners in monitoring."""

from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families
from support.authentication import ANN, API_KEYS, BOB
from support.jobs import ndjson, upload, wait_completed
from support.stack import Start, chat, eventually, free_port

from shared.models import ErrorCode
from shared.monitoring.counters import Calls, Counter
from shared.monitoring.metrics import MAX_MODEL_LABELS, OTHER_MODELS, ModelLabels
from shared.queue.item_results import Result
from worker.metrics import WorkerMetrics


async def test_invented_names_hide_no_model_of_another_owner(stack: Start) -> None:
    """Ann has used one model before Bob invents names, and uses another one after that."""
    deployment = await stack(workers=0, key=ANN, API_KEYS=API_KEYS)
    port = free_port()
    await deployment.add_worker(WORKER_METRICS_PORT=str(port))
    invented = [
        chat("x", provider="ollama", model=f"sim-status-400 {n}")
        for n in range(MAX_MODEL_LABELS + 20)
    ]

    async def models() -> set[str]:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        return {
            sample.labels["model"]
            for family in text_string_to_metric_families(text)
            if family.name == "orchestrator_items"
            for sample in family.samples
        }

    assert (await deployment.batch([chat("x", model="ann-before")])).json()["successful"] == 1
    bob = deployment.client(BOB)
    await wait_completed(bob, await upload(bob, ndjson(invented)))
    assert (await deployment.batch([chat("x", model="ann-after")])).json()["successful"] == 1

    async def are_shown() -> bool:
        return {"ann-before", "ann-after"} <= await models()

    await eventually(are_shown)
    shown = await models()
    assert len(shown) <= MAX_MODEL_LABELS + 1
    assert len([name for name in shown if name.startswith("sim-status-400")]) < MAX_MODEL_LABELS


def test_the_least_recently_seen_name_of_a_model_goes() -> None:
    forgotten: list[str] = []
    models = ModelLabels(2, forgotten.append)

    assert [models.label(name) for name in ("a", "b", "a", "c", "b")] == ["a", "b", "a", "c", "b"]
    assert forgotten == ["b", "a"]


def test_invented_names_replace_only_invented_names_of_the_same_owner() -> None:
    models = ModelLabels(100)
    for name in ("a", "b"):
        models.label(name, "ann", is_served=name == "a")
    models.label("served", "mallory")

    for number in range(1000):
        models.label(f"invented {number}", "mallory", is_served=False)

    assert all(name in models for name in ("a", "b", "served", "invented 999"))
    assert "invented 900" not in models


def test_an_owner_with_few_names_gets_a_name() -> None:
    """Even if the provider answers any name, so that all names of the other owner are served."""
    models = ModelLabels(3)
    for name in ("x", "y", "z"):
        models.label(name, "mallory")

    assert models.label("new", "mallory", is_served=False) == OTHER_MODELS
    assert models.label("a", "ann", is_served=False) == "a"
    assert "x" not in models


def test_counts_of_names_that_went_stay_in_the_sums() -> None:
    metrics = WorkerMetrics()
    calls = metrics.calls

    def reported(counts: Mapping[Counter, int]) -> int:
        return sum(count for key, count in counts.items() if isinstance(key, Calls))

    total = 0
    for start in range(0, 600, 60):
        for number in range(start, start + 60):
            calls.add_call("ollama", f"m{number}", "model_not_found", 1)
            calls.add_item(
                "ollama", f"m{number}", Result(error="x", error_code=ErrorCode.MODEL_NOT_FOUND)
            )
        before = calls.unreported()
        calls.add_call("ollama", f"late{start}", "", 1)  # while the report is under way
        calls.mark_reported(before)
        total += reported(before)
    total += reported(calls.unreported())

    samples = [one for family in metrics.registry.collect() for one in family.samples]
    attempts = [one.value for one in samples if one.name == "orchestrator_attempts_total"]
    items = [one.value for one in samples if one.name == "orchestrator_items_total"]
    assert (total, sum(attempts)) == (610, 610)
    assert len(items) <= 100
