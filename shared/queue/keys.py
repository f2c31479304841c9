"""Every Redis key and channel of the project, and the names the Lua scripts know them by."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys under one prefix; two deployments with different prefixes share nothing.

    Of a job:
    job      hash    total, owner, class, lanes, ttl_s, accepted_ms, started_ms, finished_ms, …;
                     meta:<n>: request id, provider and model of 500 items, as JSON
    payloads hash    item index → payload; gone when the item has succeeded
    tries    hash    item index → what was in vain: see settle_and_claim.lua
    results  hash    item index → "<ended_ms> <result as JSON>"; a field is written once
    ended    list    item indexes in the order in which they ended
    failed   set     item indexes
    queue    zset    of a lane and a job: item indexes that may run now

    Of a lane:
    shares   zset    owners, under an owner classes, under a class jobs, by the service they had
    depth    hash    owner → items in his queues
    quarantine zset  "<job>:<index>" that one more death would end, by time of acceptance
    deferred zset    "<job>:<index>" that wait for a retry, by the time they are due
    leases   zset    "<job>:<index>@<claim>" by the time the lease ends; its size is what runs
    paused   string  the lane is paused until this time

    deadlines zset   jobs by their deadline
    owned    zset    jobs of an owner by time of acceptance
    expiring zset    "<owner> <job>" by the time its results expire
    idempotent string  "<fingerprint> <job>" that a key has made
    workers  zset    worker id by the time it counts as dead

    Only to be looked at:
    seen     zset    worker id by the time of its last report
    report   string  "<time> <report as JSON>" of a worker
    history  hash    of some seconds: what was counted, how much ran and waited
    """

    prefix: str = "orchestrator:"

    def job(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}"

    def payloads(self, job_id: str) -> str:
        return f"{self.prefix}payloads:{job_id}"

    def tries(self, job_id: str) -> str:
        return f"{self.prefix}tries:{job_id}"

    def results(self, job_id: str) -> str:
        return f"{self.prefix}results:{job_id}"

    def ended(self, job_id: str) -> str:
        return f"{self.prefix}ended:{job_id}"

    def failed(self, job_id: str) -> str:
        return f"{self.prefix}failed:{job_id}"

    def queue(self, lane: str, job_id: str) -> str:
        return f"{self.prefix}queue:{lane}:{job_id}"

    def shares(self, lane: str, *path: str) -> str:
        return f"{self.prefix}shares:{':'.join((lane, *path))}"

    def depth(self, lane: str) -> str:
        return f"{self.prefix}depth:{lane}"

    def quarantine(self, lane: str) -> str:
        return f"{self.prefix}quarantine:{lane}"

    def deferred(self, lane: str) -> str:
        return f"{self.prefix}deferred:{lane}"

    def leases(self, lane: str) -> str:
        return f"{self.prefix}leases:{lane}"

    def paused(self, lane: str) -> str:
        return f"{self.prefix}paused:{lane}"

    @property
    def deadlines(self) -> str:
        return f"{self.prefix}deadlines"

    def owned(self, owner: str) -> str:
        return f"{self.prefix}owned:{owner}"

    @property
    def expiring(self) -> str:
        return f"{self.prefix}expiring"

    def idempotent(self, owner: str, key: str) -> str:
        return f"{self.prefix}idempotent:{owner}:{key}"

    @property
    def workers(self) -> str:
        return f"{self.prefix}workers"

    @property
    def seen(self) -> str:
        return f"{self.prefix}seen"

    def history(self, start_s: int) -> str:
        return f"{self.prefix}history:{start_s}"

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

    @property
    def progress(self) -> str:
        """Channel: the id of a followed job of which items have ended."""
        return f"{self.prefix}progress"

    def lua_constants(self) -> str:
        """The same names as Lua locals; a script appends the id to those that take one."""
        names = {
            "JOB": "job:",
            "PAYLOADS": "payloads:",
            "TRIES": "tries:",
            "RESULTS": "results:",
            "ENDED": "ended:",
            "FAILED": "failed:",
            "QUEUE": "queue:",
            "SHARES": "shares:",
            "DEPTH": "depth:",
            "QUARANTINE": "quarantine:",
            "DEFERRED": "deferred:",
            "LEASES": "leases:",
            "PAUSED": "paused:",
            "DEADLINES": "deadlines",
            "OWNED": "owned:",
            "EXPIRING": "expiring",
            "IDEMPOTENT": "idempotent:",
            "WORKERS": "workers",
            "SEEN": "seen",
            "REPORT": "report:",
            "HISTORY": "history:",
            "WAKE": "wake",
            "CANCELLED": "cancelled",
            "DONE": "done",
            "PROGRESS": "progress",
        }
        values = {name: f"{self.prefix}{key}" for name, key in names.items()}
        return "".join(f"local {name} = {lua_string(value)}\n" for name, value in values.items())


def lua_string(text: str) -> str:
    r"""A Lua 5.1 string literal: every byte outside [A-Za-z0-9:_-] as a decimal escape."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_-"
    escaped = (chr(byte) if byte in plain else f"\\{byte:03d}" for byte in text.encode())
    return f'"{"".join(escaped)}"'
