"""Drives the limits of calls and rates of a lane: see lua/lib/limiters.lua."""

from collections.abc import Mapping

import orjson

from shared.queue.capacity import Capacity, Limits, Rules
from shared.queue.leases import Announced, CallUsage, Fault, Lease, Settlement
from support.health import ANSWER, BEGIN_MS, TICK_S, Provider, clock_key, failed, refused


class LimitedProvider(Provider):
    """Plays the workers of lane a, with rules for this lane."""

    rules = Rules()
    limit = 10  # of the latest round

    async def round(
        self, limit: int = 10, *settlements: Settlement, free_slots: int = 100, running: int = 0
    ) -> list[Lease]:
        by_lane = {"a": running} if running else {}
        self.limit = limit
        limits = Limits({"a": limit, "b": 10}, {"a": self.rules})
        capacity = Capacity(limits, by_lane, free_slots) if free_slots else None
        self.round_count += 1
        self.latest = await self.queue.settle_and_claim(settlements, capacity)
        self.finished += self.latest.failed
        return self.latest.leases

    async def settled(self, *settlements: Settlement) -> None:
        """Settles without a free slot, but with the limits of the lane, which settling needs."""
        limits = Limits({"a": self.limit}, {"a": self.rules})
        self.latest = await self.queue.settle_and_claim(settlements, Capacity(limits, {}, 0))

    async def use(
        self,
        *leases: Lease,
        prompt: int | None = None,
        output: int = 0,
        announced: Mapping[str, Announced] | None = None,
    ) -> None:
        """Settles leases as answered.

        prompt, output: tokens that the provider has counted. Without `prompt` it counted none.
        announced: limits that the provider has announced.
        """
        usage = CallUsage(prompt, output if prompt is not None else None, announced or {})
        await self.settled(
            *(Settlement(lease, "complete", ANSWER, 100, usage=usage) for lease in leases)
        )

    async def wait(self) -> float:
        """Advances the clock to the next round. Returns by how many seconds."""
        assert self.latest.next_round_s is not None
        await self.pass_time(self.latest.next_round_s + TICK_S)
        return self.latest.next_round_s

    async def next_claims(self) -> list[Lease]:
        """Advances the clock until a round claims something. Returns the leases."""
        for _ in range(100):
            if leases := await self.claim(100):
                return leases
            await self.wait()
        raise AssertionError("no round has claimed anything")

    async def refuse(self, *leases: Lease, fault: Fault | None = None) -> None:
        await self.settled(*(failed(lease, fault or refused()) for lease in leases))

    async def cap(self) -> float | None:
        """Returns the adapted limit of running calls; None if the limit is not adapted."""
        state = await self.redis.hget(self.keys.caps, "a")  # type: ignore[misc]
        cap: float | None = orjson.loads(state).get("cap") if state else None
        return cap

    async def running_of(self, limiter: str) -> int:
        return int(await self.redis.hlen(self.keys.running("a", limiter)))  # type: ignore[misc]

    async def set_limits(self, name: str, **limits: float) -> None:
        value = orjson.dumps(limits).decode()
        await self.redis.hset(self.keys.limits, name, value)  # type: ignore[misc]

    async def budget(self, limiter: str) -> dict[str, float]:
        """Returns when the charges of a limiter are repaid, in seconds from now."""
        found: dict[bytes, bytes] = await self.redis.hgetall(self.keys.budget("a", limiter))  # type: ignore[misc]
        now_s = await self.now_s()
        times = {name: found[name.encode()] for name in "rtbd" if name.encode() in found}
        return {name: float(time) / 1000 - now_s for name, time in times.items()}

    async def now_s(self) -> float:
        advanced_ms = await self.redis.get(clock_key(self.keys))
        return (BEGIN_MS + float(advanced_ms or 0)) / 1000
