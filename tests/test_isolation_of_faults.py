"""Tests on an exact clock how long a fault of some requests or of one model delays the others."""

from collections.abc import AsyncIterator, Callable

import pytest
from arq.connections import ArqRedis
from support.health import ANSWERED_500, ANSWERED_503, overloaded, refused
from support.search_depth import FULL
from support.virtual_run import Call, Reply, VirtualRun, use_virtual_clock

from shared.queue.capacity import Rules
from shared.queue.leases import Fault
from shared.queue.redis_keys import Keys

# Counting lines would double its time, and other tests run the same lines.
pytestmark = pytest.mark.no_cover

LIMIT = 10
CALL_S = 0.1
TURN_S = 0.002  # from the end of a call to the next one: see `ROUND_S`
POISON = "POISON"
LIMITED = ("limited 1", "limited 2", "limited 3")

Start = Callable[..., VirtualRun]


class Faulty:
    """Answers 500 to poisoned requests, and always fails the calls of the limited models."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault

    def begin(self, call: Call) -> Reply:
        if call.model in {"limited", *LIMITED}:
            return Reply(0, self.fault)
        return Reply(CALL_S, ANSWERED_500 if call.text.startswith(POISON) else None)

    def end(self, call: Call) -> None:
        pass


@pytest.fixture
async def start(
    redis: ArqRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Start]:
    runs: list[VirtualRun] = []

    def create(provider: Faulty, rules: Rules | None = None, max_retries: int = 1) -> VirtualRun:
        use_virtual_clock(monkeypatch, keys)
        run = VirtualRun(redis, keys, provider, limit=LIMIT, rules=rules, max_retries=max_retries)
        runs.append(run)
        return run

    yield create
    for run in runs:
        await run.close()


POISONED = {
    "ten": [17 + 43 * number for number in range(10)],
    "ten in a row": list(range(500, 510)),
    **({"one": [17], "ten at the start": list(range(10))} if FULL else {}),
}


@pytest.mark.parametrize("where", POISONED)
async def test_poisoned_requests_cost_the_others_only_their_own_calls(
    start: Start, where: str
) -> None:
    max_retries, items = 3, 1000
    texts = [f"{POISON if n in POISONED[where] else 'good'} {n}" for n in range(items)]
    run = start(Faulty(), max_retries=max_retries)
    await run.accept(texts)
    await run.run()

    good = [call for call in run.calls if not call.fault]
    assert len(good) == items - len(POISONED[where])
    needed = items + max_retries * len(POISONED[where])
    assert len(run.calls) <= needed + LIMIT  # calls do not count if ten in a row fail
    assert max(call.end_s for call in good) <= 1.03 * needed / LIMIT * (CALL_S + TURN_S)


MODEL, ACCOUNT = False, True
IN_TROUBLE = {
    "a wait": (refused(2), MODEL),
    "a wait, per account": (refused(2), ACCOUNT),
    "503": (ANSWERED_503, MODEL),
    **(
        {
            "500": (ANSWERED_500, MODEL),
            "no wait": (refused(), MODEL),
            "no wait, per account": (refused(), ACCOUNT),
            "overloaded": (overloaded(2), MODEL),
        }
        if FULL
        else {}
    ),
}


@pytest.mark.parametrize("trouble", IN_TROUBLE)
async def test_a_model_in_trouble_does_not_delay_another_one(start: Start, trouble: str) -> None:
    fault, per_account = IN_TROUBLE[trouble]
    run = start(Faulty(fault), Rules(per_account=per_account))
    await run.accept([f"{n}" for n in range(10)], model="limited")
    await run.accept([f"{n}" for n in range(500)])
    await run.run(until_s=30)

    good = [call for call in run.calls if not call.fault]
    assert len(good) == 500
    assert max(call.end_s for call in good) <= 1.05 * 500 / LIMIT * (CALL_S + TURN_S)


@pytest.mark.parametrize(
    "fault", [refused(2), refused(60), refused()], ids=["2 s", "60 s", "no wait"]
)
async def test_several_limited_models_do_not_delay_another_one(start: Start, fault: Fault) -> None:
    """The answers of the other model show that the provider limits each model by itself."""
    run = start(Faulty(fault))
    await run.accept([f"{n}" for n in range(500)])
    for model in LIMITED:
        await run.accept([f"{n}" for n in range(10)], model=model)
    await run.run(until_s=30)

    good = [call for call in run.calls if not call.fault]
    assert len(good) == 500
    assert max(call.end_s for call in good) <= 1.05 * 500 / LIMIT * (CALL_S + TURN_S)


async def test_an_account_whose_models_are_refused_is_tried_after_back_offs(start: Start) -> None:
    """If no model was answered yet, the refusals may be of the account; their wait is not known."""
    run = start(Faulty(refused(60)))
    for model in LIMITED:
        await run.accept([f"{n}" for n in range(10)], model=model)
    await run.accept([f"{n}" for n in range(500)])
    await run.run(until_s=30)

    good = [call for call in run.calls if not call.fault]
    assert len(good) == 500
    back_offs_s = 0.5 + 1  # after the refusals of the second model and of the third one
    assert max(call.end_s for call in good) <= back_offs_s + 500 / LIMIT * (CALL_S + 2 * TURN_S)
