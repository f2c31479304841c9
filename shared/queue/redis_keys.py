"""Defines every Redis key and channel of the project, and the names that the Lua scripts use.

Each key is defined once, as an attribute of `Keys`. In Redis, the name of a key is the prefix,
followed by the attribute's name. In the scripts, the key is a constant: the attribute's name in
upper case. The description of a hash lists its fields.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

LAYOUT_VERSION = 5  # raised when keys, fields or their meaning change: see layout_version.py
META_ITEMS = 500  # number of items of a job whose meta is one field
SHARED_ROUTE = "*"  # model of a route that items of several models share
_NOT_PLAIN = re.compile(rb"[^A-Za-z0-9:_-]")


class _KeyWithId:
    """Makes a key that ends with one or more ids, for example `keys.queue(lane, job_id)`."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, _owner: type, name: str) -> None:
        self.suffix = f"{name}:"

    def __get__(self, keys: "Keys", _owner: type) -> Callable[..., str]:
        return lambda *ids: f"{keys.prefix}{self.suffix}{':'.join(map(str, ids))}"


class _Key:
    """Makes a key or channel without an id. Each installation has one such key or channel."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, _owner: type, name: str) -> None:
        self.suffix = name

    def __get__(self, keys: "Keys", _owner: type) -> str:
        return f"{keys.prefix}{self.suffix}"


@dataclass(frozen=True, slots=True)
class Keys:
    """Makes the keys of one installation.

    Installations in the same Redis share no data if their prefixes differ and pass `check_prefix`.
    """

    prefix: str = "orchestrator:"

    layout_version = _Key("string: the LAYOUT_VERSION of the data under this prefix")

    # One key per job, by job id
    job = _KeyWithId(
        "hash. From accept.lua: total, owner, priority_class, routes (JSON), items_by_lane (JSON),"
        " bytes, accepted_ms, deadline_ms, result_ttl_s, format, retry_of, idempotency_key,"
        " idempotency_ttl_s, webhook_url, webhook_payload, live_digest, batch (JSON); meta:<n>:"
        " request id, provider, model and metadata of each item in the n-th block of META_ITEMS"
        " items (JSON). While the job runs: started_ms, parked, has_attempts, latency_us, tokens"
        " (JSON), progress_until_ms, joined, abandoned_until_ms, grace_ms, deltas (number of the"
        " streamed parts). Later: finished_ms,"
        " finished_early_as, retried_as. Of a batch of OpenAI's API: batch_errors, usage (JSON),"
        " deleted_files, output_bytes, errors_bytes"
    )
    payloads = _KeyWithId("hash: item index → payload; the payload of an answered item is deleted")
    attempts = _KeyWithId(
        "hash: item index → failed attempts and worker losses: see lua/lib/attempts.lua"
    )
    moved = _KeyWithId("hash: item index → what was tried before the item moved, as JSON")
    results = _KeyWithId("hash: item index → '<finished_ms> <result as JSON>'; written once")
    deltas = _KeyWithId("list: parts of the streamed answer of a live call, while clients read it")
    completion_order = _KeyWithId("list: item indexes in the order in which they finished")
    failed = _KeyWithId("set: indexes of the items whose result is an error")

    # One key per lane, by the lane's name
    queue = _KeyWithId("zset, per lane, job and route: indexes of the queued items")
    fair_queue = _KeyWithId(
        "zset, per lane: owners by service; per lane, owner: classes; per lane, owner, class: jobs;"
        " per lane, owner, class, job: routes by their first item, if the job has several"
    )
    depth = _KeyWithId("hash: owner → number of the owner's items in the lane's queues")
    quarantine = _KeyWithId(
        "zset: '<job>:<index>' of items that fail after one more worker loss, by acceptance time:"
        " see lua/lib/ids.lua"
    )
    deferred = _KeyWithId("zset: '<job>:<index>' of items that wait for a retry, by due time")
    leases = _KeyWithId(
        "zset: '<job>:<index>@<claimed_us>…' by the time at which the lease expires: see"
        " lua/lib/ids.lua"
    )
    served = _KeyWithId(
        "zset, per lane and model: deployments by service: see lua/lib/deployment_choice.lua"
    )
    blocked = _KeyWithId(
        "zset: scopes that queues wait for, by the next time at which something can change"
    )
    waiting = _KeyWithId(
        "zset, per lane and scope: '<job> <number of the route>' of the queues that wait, by the"
        " time at which their items give up: see lua/lib/waiting.lua"
    )

    # One key per account (a key of a provider), by the account's name
    health = _KeyWithId(
        "hash: scope → record (MessagePack) of pauses and recent failures: see"
        " lua/lib/health_records.lua"
    )
    running = _KeyWithId(
        "hash, per account and limiter: lease → tokens that were charged: see lua/lib/limiters.lua"
    )
    budget = _KeyWithId(
        "hash, per account and limiter. Times in ms at which charges are repaid: r (requests per"
        " minute), t (tokens per minute), d (requests per day), b (the tokens of the smallest"
        " bucket that the provider may have); rpm, tpm, rpd: the limits of these charges;"
        " largest: tokens of the largest request; full: last time at which the bucket of b was"
        " full; refused: time of the last refused call; square: see lua/lib/budgets.lua; known:"
        " see lua/lib/token_estimates.lua (MessagePack). Expires"
    )

    active_lanes = _Key(
        "zset: all lanes that have items, by their last claim: see active_lanes.lua"
    )

    job_deadlines = _Key(
        "zset: job ids by deadline, or by the time at which a job without a client is cancelled"
    )
    abandoned = _KeyWithId(
        "list, per owner and digest of a body: ids of jobs whose clients have disconnected"
    )
    live_calls = _KeyWithId(
        "list, per owner and digest of a body: ids of live calls that a repetition can join"
    )
    queue_bytes = _Key(
        "hash: owner → bytes of the payloads of the owner's unfinished jobs, and of the owner's"
        " uploads that have not ended"
    )
    staged_uploads = _Key(
        "zset: '<owner> <upload> <bytes>' of uploads that have not ended, by the time at which"
        " their parts expire: see lua/lib/staged_bytes.lua"
    )
    jobs_by_owner = _KeyWithId("zset, per owner: job ids by acceptance time")
    batches_by_owner = _KeyWithId(
        "zset, per owner: ids of bulk jobs, and of rejected batches, by acceptance time"
    )
    rejected_batches = _KeyWithId("list, per owner: ids of batches whose file had mistakes")
    job_expirations = _Key("zset: '<owner> <job>' by the time at which the results expire")
    idempotency = _KeyWithId(
        "string, per owner and idempotency key: '<version>:<fingerprint> <job>'"
    )

    # Files, by file id or owner
    file = _KeyWithId("hash: owner, created_ms, expires_ms, blocks, stored_bytes, info (JSON), …")
    uploads = _KeyWithId(
        "string, per owner and digest of an upload or of its idempotency key: '<digest of the"
        " upload> <file>'; expires"
    )
    file_blocks = _KeyWithId("hash: number of a block → its bytes: see shared.files.blocks")
    files_by_owner = _KeyWithId("zset, per owner: file ids by creation time")
    file_bytes = _Key("hash: owner → number of bytes of the owner's stored files")
    file_expirations = _Key("zset: '<owner> <file> <bytes>' by the time at which the file expires")

    workers = _Key("zset: worker ids by the time after which a worker is lost")
    limits = _Key(
        "hash: '<provider>' or '<provider>/<model>' → limits as JSON that were set while work runs"
    )
    learned = _Key("hash: '<account>/<model>' → limits as JSON that the provider has announced")
    caps = _Key(
        "hash: provider → state of its adaptive limit as JSON: see lua/lib/adaptive_limit.lua"
    )
    hungry = _Key("zset: '<worker> <lane>' by the time until which it counts: see worker_share.lua")
    clock = _KeyWithId(
        "string, per reader: the latest time in ms that the reader has seen; two further keys per"
        " reader: see clock_set_back.lua"
    )

    # Only monitoring reads these keys: no decision about an item depends on them
    worker_last_seen = _Key("zset: worker ids by the time of their last report")
    worker_report = _KeyWithId(
        "string, per worker id: '<time in ms> <configured lanes> <report as JSON>'"
    )
    called_lanes = _Key("zset: lanes by the time of the last report of a call")
    history = _KeyWithId(
        "hash, per step of 10 s, by its start in s: counters, running items, queue depth"
    )

    # Channels
    wake = _Key("channel: a message means that an item may be ready to be claimed")
    job_cancelled = _Key(
        "channel: id of a job that was cancelled or whose deadline has passed: its calls stop"
    )
    job_finished = _Key("channel: id of a job that has completed or ended early")
    job_progress = _Key("channel: id of a followed job some of whose items have finished")

    @classmethod
    def names(cls) -> frozenset[str]:
        """Returns the attributes' names: the parts of the keys between prefix and ids."""
        return frozenset(
            name for name, key in vars(cls).items() if isinstance(key, _Key | _KeyWithId)
        )

    def lua_constants(self) -> dict[str, str | float]:
        """Returns the constants of the scripts: each key without its ids, and LAYOUT."""
        keys = {
            name.upper(): self.prefix + key.suffix
            for name, key in vars(Keys).items()
            if isinstance(key, _Key | _KeyWithId)
        }
        return {"LAYOUT": LAYOUT_VERSION, **keys}


def check_prefix(prefix: str) -> str:
    """Returns `prefix`. Raises ValueError if a shorter prefix could make the same keys.

    For example, the prefix `a:job:` makes the key `a:job:queue:x`. The prefix `a:` makes the same
    key, for the job `queue:x`. So a prefix with `job:` after its first character is refused.
    """
    names = Keys.names()
    begins = [f"{name}:" for name in names if isinstance(vars(Keys)[name], _KeyWithId)]
    # With the prefixes `a:` and `a:fair_`, both installations have the key `a:fair_queue:x`.
    ends = [a.removesuffix(b) for a in names for b in names if a != b and a.endswith(b)]
    rest = prefix[1:]  # the shortest prefix has one character
    used = [text for text in begins if text in rest]
    used += [text for text in ends if rest.endswith(text)]
    if used:
        raise ValueError(
            f"must not contain {used[0]!r}, because the keys of installations with a shorter prefix"
            " contain it"
        )
    return prefix


def lua_string(text: str) -> str:
    r"""Returns `text` as a Lua 5.1 string literal.

    Every byte outside [A-Za-z0-9:_-] is written as a decimal escape, such as \032.
    """
    escaped = _NOT_PLAIN.sub(lambda found: b"\\%03d" % found[0][0], text.encode())
    return f'"{escaped.decode()}"'
