"""Checks the promises that hold after every fault.

The checks compare what clients were told, what the provider received (the simulator's ledger) and
what Redis contains.
"""

from collections.abc import Collection

from redis.asyncio import Redis

from cli.simulator.chat import item_of
from shared.queue.redis_keys import Keys
from shared.redis.client import connect
from support.ledger import Call, calls_by_item, ledger, peak
from support.load import Load
from support.stack import Stack, eventually


async def verify(
    stack: Stack,
    *loads: Load,
    limit: int,
    may_repeat: Collection[str] = (),
    beyond_limit: Collection[str] = (),
    failed: Collection[str] = (),
) -> list[Call]:
    """Checks every promise after all jobs of the loads have completed. Returns the ledger.

    may_repeat: items that were running during the fault; the provider may be called again for them.
    beyond_limit: items whose first call does not count for the limit.
    failed: contents of the requests that must have failed.
    """

    async def idle() -> bool:
        return bool((await stack.stats())["in_flight"] == 0)

    await eventually(idle)
    calls = await ledger(stack)
    assert (await stack.stats())["total"] == len(calls)  # the ledger is complete
    by_item = calls_by_item(calls)
    extra = {id(by_item[item][0]) for item in beyond_limit}
    for dialect in {call.dialect for call in calls}:
        counted = (call for call in calls if call.dialect == dialect and id(call) not in extra)
        assert peak(counted) <= limit
    jobs = {job_id: contents for load in loads for job_id, contents in load.jobs.items()}
    answers = {job_id: answer for load in loads for job_id, answer in load.answers.items()}
    assert jobs.keys() == answers.keys()
    load_of = {job_id: load for load in loads for job_id in load.jobs}
    for job_id, contents in jobs.items():
        job = await load_of[job_id].status(job_id)
        assert job == answers[job_id]  # a completed job never changes
        assert (job["status"], job["queued"], job["running"]) == ("completed", 0, 0)
        assert job["failed"] == len(set(contents) & set(failed))
        assert job["successful"] + job["failed"] == job["total_requests"] == len(contents)
        for content, response in zip(contents, job["responses"], strict=True):
            answer = "" if content in failed else f"echo: {content}"
            assert (response["content"], bool(response["error"])) == (answer, content in failed)
            item = item_of(content)
            if item not in may_repeat:
                assert len(by_item[item]) == response["attempts"], (content, by_item[item])
    known = {item_of(content) for contents in jobs.values() for content in contents}
    assert by_item.keys() <= known.union(*(load.unsure for load in loads))
    await _verify_redis(stack, jobs)
    return calls


async def _verify_redis(stack: Stack, jobs: dict[str, list[str]]) -> None:
    """Checks that no item is queued or running, that no lane is active, and that Redis has one
    result per item."""
    redis, keys = connect(stack.redis_url), stack.keys

    try:
        await eventually(lambda: drained(redis, keys))
        for job_id, contents in jobs.items():
            results = await redis.hkeys(keys.results(job_id))  # type: ignore[misc]
            assert sorted(map(int, results)) == list(range(len(contents)))
            assert await redis.hexists(keys.job(job_id), "finished_ms")  # type: ignore[misc]
    finally:
        await redis.aclose()


async def drained(redis: Redis, keys: Keys) -> bool:
    """Returns whether no item is queued or running, and no lane is active."""
    lane_keys = (keys.depth, keys.leases, keys.quarantine, keys.deferred)
    lane_patterns = (key_of("*") for key_of in lane_keys)
    for pattern in (keys.active_lanes, keys.queue("*", "*", "*"), *lane_patterns):
        async for _ in redis.scan_iter(pattern):
            return False
    return True
