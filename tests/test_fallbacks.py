"""Tests how items move on to other routes that can serve them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from support.claims import claim, commit, rate_limited, settle
from support.in_process import running_api, running_worker
from support.jobs import NDJSON, ndjson, upload, wait_completed
from support.providers import combined
from support.stack import Start, chat

from cli.simulator import Simulator
from shared.jobs.staging import MAX_ROUTES, MAX_SHARED_ROUTES
from shared.jobs.store import Store
from shared.providers import PROVIDERS, Alias, Catalogue, Deployment, Provider
from shared.providers.lanes import alias_lane
from shared.queue.capacity import Capacity, Limits, ServedBy
from shared.queue.claims import Queue
from shared.queue.fallback_chain import fallback_chain
from shared.queue.leases import Fault, Lease, Settlement
from shared.queue.redis_keys import Keys
from shared.queue.verdict import Verdict
from shared.settings import ProviderSettings, Settings

QUOTA = Fault(Verdict.QUOTA_EXHAUSTED, "answered 429", "quota_exhausted", status_code=429)
BROKEN = Fault(Verdict.TRANSIENT, "answered 500", "provider_error", status_code=500)
UNREACHABLE = Fault(Verdict.UNREACHABLE, "could not be reached", "connection_error")
NOT_FOUND = Fault(Verdict.MODEL_NOT_FOUND, "answered 404", "model_not_found", status_code=404)
FILTERED = Fault(Verdict.CONTENT_FILTERED, "answered 403", "content_filtered", status_code=403)
UNFINISHED = Fault(Verdict.UNFINISHED, "was not finished", "incomplete")
ABSENT = Fault(Verdict.NOT_CONFIGURED, "has no API key", "provider_not_configured", ignored=True)
INVALID = Fault(Verdict.REJECTED, "answered 400", "invalid_request", status_code=400)
LIMITS = {"a": 10, "b": 10, "c": 10}


async def accept(
    store: Store, items: int = 3, *, filtered: bool = False, after_s: float = 60, **options: Any
) -> None:
    """Accepts a job whose items ask for model m of a, then may move to model N of b, then to c."""
    chain = fallback_chain([("b", "Org/N"), ("c", "o")], after_s=after_s, content_filtered=filtered)
    async with store.staging("job") as staging:
        for index in range(items):
            await staging.add("a", f"{index}".encode(), (None, "a", "m"), chain)
        await commit(staging, **options)


async def served(queue: Queue) -> list[Lease]:
    return await claim(queue, **LIMITS)


async def refuse(queue: Queue, leases: list[Lease], fault: Fault, *, last: bool = False) -> None:
    """Settles failed calls as a worker does."""
    final = fault.verdict in {"model_not_found", "content_filtered", "rejected"}
    outcome: Any = "fail" if final else "retry"
    delay_s = None if last else 0.0
    settlements = [
        Settlement(lease, outcome, b'{"error": "x"}', delay_s=delay_s, fault=fault)
        for lease in leases
    ]
    await settle(queue, *settlements)


@pytest.mark.parametrize("fault", [QUOTA, NOT_FOUND])
async def test_an_item_moves_on_at_once_if_its_route_cannot_serve_it(
    queue: Queue, store: Store, fault: Fault
) -> None:
    await accept(store)
    await refuse(queue, await served(queue), fault)

    moved = await served(queue)

    assert {(lease.lane, lease.model, lease.attempts) for lease in moved} == {("b", "Org/N", 0)}
    assert [json.loads(lease.tried) for lease in moved] == [
        [{"model": "a/m", "error_code": fault.code, "attempts": 1}]
    ] * 3
    assert [lease.item_id.request_index for lease in moved] == [0, 1, 2]


async def test_each_route_is_tried_once_and_the_last_failure_is_the_result(
    queue: Queue, store: Store
) -> None:
    await accept(store, 1)
    for lane in ("a", "b", "c"):
        [lease] = await served(queue)
        assert lease.lane == lane
        await refuse(queue, [lease], NOT_FOUND)

    assert await served(queue) == []
    snapshot = await store.snapshot("job", "")
    assert snapshot is not None
    assert (snapshot.finished, snapshot.failed) == (1, 1)


async def test_an_item_moves_to_a_provider_with_several_keys(queue: Queue, store: Store) -> None:
    await accept(store, 1)
    await refuse(queue, await served(queue), NOT_FOUND)
    keys_of_b = [ServedBy("b"), ServedBy("b#2")]
    capacity = Capacity(Limits(LIMITS, served_by={"b": keys_of_b}), {}, 9)

    [lease] = (await queue.settle_and_claim([], capacity)).leases

    assert (lease.account, lease.model) == ("b", "Org/N")
    failure = Settlement(lease, "fail", b'{"error": "x"}', fault=NOT_FOUND)
    [lease] = (await queue.settle_and_claim([failure], capacity)).leases
    assert [step["model"] for step in json.loads(lease.tried)] == ["a/m", "b/org/n"]


@pytest.mark.parametrize("others", [[("c", "o")], []])
async def test_a_deployment_of_an_alias_that_was_tried_is_not_tried_again(
    queue: Queue, store: Store, others: list[tuple[str, str]]
) -> None:
    """A fallback that was tried is skipped, and so is the tried deployment of an alias."""
    fast = alias_lane("fast")
    served_by = {fast: [ServedBy("a", "M"), ServedBy("b", "N"), ServedBy("b#2", "N")]}
    if not others:
        served_by[fast] = served_by[fast][:1]
    steps = [(fast, "fast"), ("a", "M"), ("b", "n"), *others]
    chain = fallback_chain(steps, after_s=60, content_filtered=False)
    async with store.staging("job") as staging:
        await staging.add("a", b"", (None, "a", "m"), chain)
        await commit(staging)
    capacity = Capacity(Limits({fast: 1, **LIMITS}, served_by=served_by), {}, 9)

    called = []
    [lease] = (await queue.settle_and_claim([], capacity)).leases
    while True:
        called.append(f"{lease.account}/{lease.model or 'm'}")
        failure = Settlement(lease, "fail", b'{"error": "x"}', fault=NOT_FOUND)
        if not (leases := (await queue.settle_and_claim([failure], capacity)).leases):
            break
        [lease] = leases

    assert called == ["a/m", *(["b/N", "c/o"] if others else ["b/n"])]
    snapshot = await store.snapshot("job", "")
    assert snapshot is not None
    assert (snapshot.finished, snapshot.failed) == (1, 1)


async def test_an_item_that_has_waited_for_an_alias_names_the_alias(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    lane = alias_lane("fast one")
    limits = Limits({lane: 1, "a": 9}, served_by={lane: [ServedBy("a", "M"), ServedBy("a#2", "M")]})
    chain = fallback_chain([("c", "o")], after_s=0, content_filtered=False)
    async with store.staging("job") as staging:
        for text in (chain, chain, ""):
            await staging.add(lane, b"", (None, lane, "fast one"), text)
        await commit(staging, interactive=True)
    refused = replace(QUOTA, verdict=Verdict.UNAUTHORIZED, reason="answered 401")
    capacity = Capacity(limits, {}, 9)
    for _ in range(3):
        claimed = await queue.settle_and_claim([], capacity)
        failures = [
            Settlement(lease, "retry", b'{"error": "x"}', delay_s=0, fault=refused)
            for lease in claimed.leases
        ]
        await queue.settle_and_claim(failures, capacity)

    moved = await redis.hvals(keys.moved("job"))  # type: ignore[misc]
    [result] = await redis.hvals(keys.results("job"))  # type: ignore[misc]

    assert {step["model"] for steps in moved for step in json.loads(steps)} <= {"fast one", "a/m"}
    assert b"@" not in result


async def test_an_item_moves_over_several_models_of_one_provider(
    queue: Queue, store: Store
) -> None:
    models = ["c", "b", "a", "d"]
    chain = fallback_chain([("b", m) for m in models], after_s=60, content_filtered=False)
    async with store.staging("job") as staging:
        await staging.add("b", b"", (None, "b", "m"), chain)
        await commit(staging)

    seen: list[str] = []
    while leases := await served(queue):
        seen += [lease.model for lease in leases]
        await refuse(queue, leases, NOT_FOUND)

    assert seen == ["", *models]


async def test_retries_that_are_used_up_move_an_item_on(queue: Queue, store: Store) -> None:
    await accept(store, 1)
    await refuse(queue, await served(queue), BROKEN)
    [second] = await served(queue)
    assert (second.lane, second.attempts) == ("a", 1)
    await refuse(queue, [second], BROKEN, last=True)

    [moved] = await served(queue)

    assert (moved.lane, moved.attempts, moved.uncounted) == ("b", 0, 2)
    assert json.loads(moved.tried)[0]["attempts"] == 2


@pytest.mark.parametrize(
    ("fault", "filtered", "lane"),
    [(FILTERED, False, None), (FILTERED, True, "b"), (INVALID, True, None)],
)
async def test_a_refused_request_moves_on_only_if_asked_for(
    queue: Queue,
    store: Store,
    fault: Fault,
    lane: str | None,
    *,
    filtered: bool,
) -> None:
    await accept(store, 1, filtered=filtered)

    await refuse(queue, await served(queue), fault)

    assert [lease.lane for lease in await served(queue)] == ([lane] if lane else [])


@pytest.mark.parametrize(
    ("fault", "lane"),
    [
        (BROKEN, "b"),
        (UNREACHABLE, "b"),
        (UNFINISHED, "b"),
        (rate_limited(60), "b"),
        (INVALID, None),
        (FILTERED, None),
    ],
)
async def test_an_item_without_retries_moves_on_after_its_call(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys, fault: Fault, lane: str | None
) -> None:
    """With MAX_RETRIES=0, a fault says nothing about the provider's health."""
    await accept(store, 1)
    [lease] = await served(queue)

    fault = replace(fault, ignored=True)
    await settle(queue, Settlement(lease, "fail", b'{"error": "x"}', fault=fault))

    assert [lease.lane for lease in await served(queue)] == ([lane] if lane else [])
    assert await redis.exists(keys.health("a")) == 0


async def test_an_item_moves_on_from_a_provider_without_configuration(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, 2)
    leases = await served(queue)
    failures = [Settlement(lease, "fail", b'{"error": "x"}', fault=ABSENT) for lease in leases]

    await settle(queue, *failures)

    moved = await served(queue)
    assert [(lease.lane, lease.uncounted) for lease in moved] == [("b", 0)] * 2
    assert json.loads(moved[0].tried) == [
        {"model": "a/m", "error_code": "provider_not_configured", "attempts": 0}
    ]
    assert await redis.exists(keys.health("a")) == 0


async def test_models_that_share_a_queue_move_to_their_own_fallbacks(
    queue: Queue, store: Store
) -> None:
    """Only the first models of a job have queues of their own."""
    async with store.staging("job") as staging:
        for index in range(MAX_ROUTES + 6):
            chain = fallback_chain([("b", f"F{index % 2}")], after_s=60, content_filtered=False)
            await staging.add("a", b"", (None, "a", f"M{index}"), chain if index % 3 else "")
        await commit(staging)
    leases: list[Lease] = []
    while found := await claim(queue, a=1000, b=1000):
        leases += found
    await refuse(queue, leases, NOT_FOUND)

    moved: list[Lease] = []
    while found := await claim(queue, a=1000, b=1000):
        moved += found

    assert sorted(
        (lease.item_id.request_index, lease.model, json.loads(lease.tried)[0]["model"])
        for lease in moved
    ) == [
        (i, f"F{i % 2}", f"a/{'m' if i < MAX_ROUTES else 'M'}{i}")
        for i in range(MAX_ROUTES + 6)
        if i % 3
    ]


async def test_a_job_with_too_many_lists_of_fallbacks_is_refused(settings: Settings) -> None:
    requests = [
        chat("hello", model=f"m{index}") | {"models": [f"ollama/m{index}"]}
        for index in range(MAX_ROUTES + MAX_SHARED_ROUTES + 1)
    ]
    async with running_api(settings) as api:
        refused = await api.post("/jobs", content=ndjson(requests), headers=NDJSON)
        accepted = await api.post("/jobs", content=ndjson(requests[1:]), headers=NDJSON)

    assert (refused.status_code, accepted.status_code) == (422, 202)
    assert refused.json()["detail"] == [
        {
            "type": "value_error",
            "loc": ["body"],
            "msg": "the job has more than 100 models, and the models of openrouter after the first"
            " 100 have more than 20 different lists of fallbacks; nothing was accepted. Give these"
            " models the same fallbacks, or send several jobs",
        }
    ]


async def test_items_wait_for_a_provider_that_does_not_work_before_they_move(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, 30, after_s=3600)
    await refuse(queue, await served(queue), UNREACHABLE)

    assert await served(queue) == []

    [(_, until_ms)] = await redis.zrange(keys.waiting("a", ""), 0, -1, withscores=True)
    seconds, _ = await redis.time()
    assert until_ms / 1000 - seconds == pytest.approx(3600, abs=30)


async def test_items_that_have_waited_move_on_together(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, 30, after_s=0)
    await refuse(queue, await served(queue), UNREACHABLE)

    moved: list[Lease] = []
    for _ in range(5):
        moved += await served(queue)

    assert {lease.lane for lease in moved} == {"b"}
    assert len(moved) == 10
    assert await redis.hgetall(keys.depth("a")) == {}  # type: ignore[misc]
    assert await redis.hgetall(keys.depth("b")) == {b"": b"20"}  # type: ignore[misc]


async def test_a_pause_moves_nothing(queue: Queue, store: Store) -> None:
    await accept(store, 1)

    await refuse(queue, await served(queue), rate_limited(60))

    assert await served(queue) == []


async def test_cancelling_ends_items_on_every_route(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, 12)
    await refuse(queue, (await served(queue))[:4], NOT_FOUND)

    assert await store.cancel("job", "")

    for lane in ("a", "b"):
        assert await redis.hgetall(keys.depth(lane)) == {}  # type: ignore[misc]
        assert [key async for key in redis.scan_iter(keys.queue(lane, "job", "*"))] == []
    assert await redis.ttl(keys.moved("job")) > 0


async def test_a_job_with_items_on_the_fallback_keeps_both_queues(
    queue: Queue, store: Store
) -> None:
    chain = fallback_chain([("b", "x")], after_s=60, content_filtered=False)
    async with store.staging("job") as staging:
        for index in range(20):
            await staging.add("b", f"{index}".encode(), (None, "b", "own"))
        await staging.add("a", b"20", (None, "a", "m"), chain)
        await commit(staging)
    leases = await served(queue)
    await refuse(queue, [lease for lease in leases if lease.lane == "a"], NOT_FOUND)

    seen = {lease.item_id for lease in leases if lease.lane == "b"}
    running = [lease for lease in leases if lease.lane == "b"]
    while running:
        await settle(queue, *(Settlement(lease, "complete", b"{}") for lease in running))
        running = await served(queue)
        seen |= {lease.item_id for lease in running}

    assert len(seen) == 21


@pytest.fixture
def file_with_fallbacks(simulator: Simulator, tmp_path: Path) -> str:
    path = tmp_path / "providers.toml"
    path.write_text(
        f"""
        [providers.gpu1]
        base_url = "{simulator.url}/v1"

        [providers.gpu2]
        base_url = "{simulator.url}/v1"

        [models.fast]
        deployments = [{{ provider = "gpu1", model = "sim-404" }}]
        fallbacks = ["gpu2/sim-status-404", "slow"]

        [models.slow]
        deployments = [
            {{ provider = "gpu1", model = "Big" }},
            {{ provider = "gpu2", model = "Big" }},
        ]
        """
    )
    return str(path)


async def test_a_model_with_control_characters_does_not_name_fallbacks(
    queue: Queue, store: Store
) -> None:
    chain = fallback_chain([("b", "N\x1fc\x1eo")], after_s=60, content_filtered=False)
    async with store.staging("job") as staging:
        await staging.add("a", b"", (None, "a", "m\x1f0\x1fb\x1ex"))
        await staging.add("a", b"", (None, "a", "\x1dm"), chain)
        await commit(staging)
    seen: list[tuple[str, str]] = []

    while leases := await served(queue):
        seen += [(lease.lane, lease.model) for lease in leases]
        await refuse(queue, leases, NOT_FOUND)

    assert seen == [("a", ""), ("a", ""), ("b", "N\ufffdc\ufffdo")]


async def test_the_queue_reports_an_item_that_could_have_moved_on(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    """The worker does not know whether the item finishes, so that it does not count the item."""
    await accept(store, 2)
    leases = await served(queue)
    await redis.hset(keys.job("job"), "deltas", "1")  # type: ignore[misc]
    settlement = Settlement(leases[0], "fail", b'{"error": "x"}', fault=NOT_FOUND)

    claimed = await queue.settle_and_claim([settlement], None)

    [failed] = claimed.failed
    assert (failed.lane, failed.model, failed.error_code) == ("a", "m", "model_not_found")


async def test_the_result_says_what_served_the_request_and_what_was_tried(
    stack: Start, file_with_fallbacks: str
) -> None:
    deployment = await stack(workers=1, PROVIDERS_FILE=file_with_fallbacks)
    body = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}

    job = await wait_completed(deployment.api, await upload(deployment.api, ndjson([body])))
    [response] = job["responses"]
    assert (response["error"], response["model"], response["attempts"]) == (None, "Big", 3)
    assert response["provider"] in {"gpu1", "gpu2"}
    assert response["body"]["choices"][0]["message"]["content"] == "echo: hello"
    assert response["route"] == [
        {"model": "gpu1/sim-404", "error_code": "model_not_found", "attempts": 1},
        {"model": "gpu2/sim-status-404", "error_code": "model_not_found", "attempts": 1},
    ]


async def test_a_native_request_names_its_fallbacks(stack: Start, file_with_fallbacks: str) -> None:
    deployment = await stack(workers=1, PROVIDERS_FILE=file_with_fallbacks)
    request = chat("hello", provider="gpu1", model="sim-404") | {"models": ["gpu2/Org/M", "slow"]}

    answer = await deployment.batch([request])

    [response] = answer.json()["responses"]
    assert (response["error"], response["content"]) == (None, "echo: hello")
    assert (response["provider"], response["model"]) == ("gpu2", "Org/M")
    assert [step["model"] for step in response["route"]] == ["gpu1/sim-404"]


async def test_without_retries_a_failed_request_moves_on(
    settings: Settings, simulator: Simulator
) -> None:
    """The request is tried on a provider without a key, and on others that fail."""
    urls = {
        "gpu1": f"{simulator.url}/v1",
        "gpu2": "http://127.0.0.1:1/v1",
        "gpu3": f"{simulator.url}/v1",
    }
    rows = {name: Provider(name, url, key_required=False) for name, url in urls.items()}
    settings_of = {name: ProviderSettings(base_url=url) for name, url in urls.items()}
    providers = combined({**PROVIDERS, **rows}, settings_of)
    settings = settings.model_copy(update={"max_retries": 0})
    request = chat("hello", provider="openai") | {
        "models": ["gpu2/m", "gpu1/sim-status-500", "gpu1/sim-429-100", "gpu3/M"]
    }
    async with (
        running_api(settings, providers.catalogue) as api,
        running_worker(settings, providers),
    ):
        answer = await api.post("/batch", json={"requests": [request]})

    [response] = answer.json()["responses"]
    assert (response["error"], response["content"], response["model"]) == (None, "echo: hello", "M")
    assert response["route"] == [
        {"model": "openai/m", "error_code": "provider_not_configured", "attempts": 0},
        {"model": "gpu2/m", "error_code": "connection_error", "attempts": 1},
        {"model": "gpu1/sim-status-500", "error_code": "provider_error", "attempts": 1},
        {"model": "gpu1/sim-429-100", "error_code": "rate_limited", "attempts": 1},
    ]
    assert response["attempts"] == 4


async def test_too_many_fallbacks_of_fallbacks_are_refused(settings: Settings) -> None:
    """Tests that no fallback is dropped silently. The fallbacks of an alias count, too."""
    rows = {**PROVIDERS, "gpu2": Provider("gpu2", "http://gpu2")}
    follow = tuple(Deployment("gpu2", f"m{number}") for number in range(5))
    aliases = {
        name: Alias(
            (Deployment("gpu2", name),),
            tuple(replace(d, model=name + d.model) for d in follow),
            60.0,
        )
        for name in ("x", "y")
    }
    async with running_api(settings, Catalogue(rows, aliases=aliases)) as api:
        answers = [
            await api.post(
                "/batch?mode=async", json={"requests": [chat("hello") | {"models": models}]}
            )
            for models in (["x", "gpu2/a", "gpu2/b", "gpu2/c", "gpu2/d"], ["x", "y"])
        ]

    assert [answer.status_code for answer in answers] == [202, 422]
    [error] = answers[1].json()["detail"]
    assert error["loc"][-1] == "models"
    assert "these are 12 fallbacks; 10 are allowed" in error["msg"]


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (["gpu3/m"], "no provider is named 'gpu3'"),
        (["m"], "nothing says which provider serves the model 'm'"),
        (["gpu2/m"] * 6, "at most 5"),
        ([""], "at least 1"),
    ],
)
async def test_a_wrong_fallback_is_refused(
    settings: Settings, models: list[str], reason: str
) -> None:
    catalogue = Catalogue({**PROVIDERS, "gpu2": Provider("gpu2", "http://gpu2")})
    async with running_api(settings, catalogue) as api:
        request = chat("hello") | {"models": models}
        refused = await api.post("/batch", json={"requests": [request]})

    assert refused.status_code == 422
    assert reason in refused.text
    assert "models" in refused.text
