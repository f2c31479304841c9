"""Every Redis key and channel of the project, and the names the Lua scripts know them by."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys under one prefix; two deployments with different prefixes share nothing.

    job      hash    what one POST created: meta, total, ttl_s, accepted_ms, started_ms, …
    results  hash    item index → "<ended_ms> <result as JSON>"; a field is written once
    item     hash    payload, lane, accepted_ms, attempts, claims, deaths; gone when it ends
    queue    zset    items of a lane that may run now, by time of acceptance
    quarantine zset  items that one more death would end, likewise
    deferred zset    items of a lane that wait for a retry, by the time they are due
    leases   zset    "<item>@<claim>" by the time the lease ends; its size is what runs
    paused   string  the lane is paused until this time
    workers  zset    worker id by the time it counts as dead
    """

    prefix: str = "orchestrator:"

    def job(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}"

    def results(self, job_id: str) -> str:
        return f"{self.prefix}results:{job_id}"

    def item(self, item_id: str) -> str:
        return f"{self.prefix}item:{item_id}"

    def queue(self, lane: str) -> str:
        return f"{self.prefix}queue:{lane}"

    def quarantine(self, lane: str) -> str:
        return f"{self.prefix}quarantine:{lane}"

    def deferred(self, lane: str) -> str:
        return f"{self.prefix}deferred:{lane}"

    def leases(self, lane: str) -> str:
        return f"{self.prefix}leases:{lane}"

    def paused(self, lane: str) -> str:
        return f"{self.prefix}paused:{lane}"

    @property
    def workers(self) -> str:
        return f"{self.prefix}workers"

    @property
    def wake(self) -> str:
        """Channel: there may be something to claim."""
        return f"{self.prefix}wake"

    @property
    def cancelled(self) -> str:
        """Channel: the id of a job whose running calls must stop."""
        return f"{self.prefix}cancelled"

    @property
    def done(self) -> str:
        """Channel: the id of a job whose last item has ended."""
        return f"{self.prefix}done"

    def lua_constants(self) -> str:
        """The same names as Lua locals; a script appends the id to those that take one."""
        values = {
            "JOB": self.job(""),
            "RESULTS": self.results(""),
            "ITEM": self.item(""),
            "QUEUE": self.queue(""),
            "QUARANTINE": self.quarantine(""),
            "DEFERRED": self.deferred(""),
            "LEASES": self.leases(""),
            "PAUSED": self.paused(""),
            "WORKERS": self.workers,
            "WAKE": self.wake,
            "CANCELLED": self.cancelled,
            "DONE": self.done,
        }
        return "".join(f"local {name} = {lua_string(value)}\n" for name, value in values.items())


def lua_string(text: str) -> str:
    r"""A Lua 5.1 string literal: every byte outside [A-Za-z0-9:_-] as a decimal escape."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_-"
    escaped = (chr(byte) if byte in plain else f"\\{byte:03d}" for byte in text.encode())
    return f'"{"".join(escaped)}"'
