"""Writes a history of earlier jobs to Redis, so that the page's charts show an hour of work."""

import math
import random
import time

from redis.asyncio import Redis

from shared.monitoring.counters import (
    KEPT_S,
    STEP_S,
    Calls,
    Counter,
    Durations,
    Level,
    LevelName,
    encode,
)
from shared.monitoring.histogram import duration_bucket
from shared.queue.redis_keys import Keys

JOBS = {  # number of requests of each earlier job, by the job's age in seconds
    3200: {"openrouter": 6800, "ollama": 1200},
    1900: {"openrouter": 0, "ollama": 1700},
    1300: {"openrouter": 2600, "ollama": 0},
}
LIMITS = {"openrouter": 6, "ollama": 4}
MEDIAN_MS = {"openrouter": 1150, "ollama": 2100}
SIGMA = 0.25  # standard deviation of the logarithm of the latency


async def write_past_hour(redis: Redis, keys: Keys) -> None:
    """Writes the history, except for the last two minutes: the test's job starts after a break."""
    draw = random.Random(7)
    now = int(time.time()) // STEP_S * STEP_S
    queued = dict.fromkeys(LIMITS, 0)
    pipe = redis.pipeline(transaction=False)
    for start in range(now - KEPT_S + STEP_S, now - 120, STEP_S):
        job = JOBS.get(now - start, {})
        queued = {lane: count + job.get(lane, 0) for lane, count in queued.items()}
        step: dict[Counter, int] = {}
        for lane in queued:
            step |= _lane_step(lane, queued[lane], draw)
            queued[lane] = step[Level(lane, LevelName.QUEUED)]
        key = keys.history(start)
        pipe.hset(key, mapping={encode(counter): count for counter, count in step.items()})
        pipe.expire(key, KEPT_S)
    await pipe.execute()


def _lane_step(lane: str, queued: int, draw: random.Random) -> dict[Counter, int]:
    median_ms = MEDIAN_MS[lane] * draw.uniform(0.9, 1.15)
    mean_ms = median_ms * 1.1
    calls = min(queued, round(LIMITS[lane] * STEP_S * 1000 / mean_ms))
    step: dict[Counter, int] = {
        Level(lane, LevelName.IN_FLIGHT): LIMITS[lane] if calls else 0,
        Level(lane, LevelName.QUEUED): queued - calls,
    }
    for _ in range(calls):
        bucket = Durations(lane, duration_bucket(draw.lognormvariate(math.log(median_ms), SIGMA)))
        step[bucket] = step.get(bucket, 0) + 1
    failed = sum(draw.random() < 0.02 for _ in range(calls)) if lane == "openrouter" else 0
    if failed:
        step[Calls(lane, "provider_error", "openai/gpt-4o-mini")] = failed
    if calls:
        step[Calls(lane, "", "openai/gpt-4o-mini")] = calls - failed
    return step
