"""The arq function: one attempt to tell a webhook that its job has ended.

Standard Webhooks 1.0 (standardwebhooks.com): signed, repeated over hours, redirects not followed.
"""

import asyncio
import hmac
import random
import socket
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from time import perf_counter
from typing import Any

import aiohttp
import orjson
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from redis.exceptions import RedisError

from shared.jobs.service import JobNotFound, Jobs
from shared.models import JobSummary
from shared.providers import WEBHOOK_LANE
from shared.queue.results import Result
from worker.call_metrics import CallMetrics
from worker.outcomes import Attempt, Finished, Retry, TaskOutcome

TIMEOUT_S = 10.0
# Between attempts: 18 hours in all.
DELAYS_S = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600)
LOOK_UPS_AT_ONCE = 10  # of names, as many as there are deliveries
GONE = 410  # the receiver wants no more of it
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all of it that IANA has given out

log = structlog.get_logger()


class DeliveryFailed(Exception):
    """The text says why; it never has the URL, which may hold a secret."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


@dataclass(frozen=True, slots=True)
class Webhooks:
    """In arq's ctx as `webhooks`."""

    jobs: Jobs
    secret: bytes | None
    allow_private: bool
    tally: CallMetrics


def signing_key(secret: str) -> bytes:
    return b64decode(secret.removeprefix("whsec_"))


async def deliver_webhook(
    ctx: dict[str, Any], attempt: Attempt, job_id: str, url: str, owner: str
) -> TaskOutcome:
    """Post the job's summary to its webhook once."""
    webhooks: Webhooks = ctx["webhooks"]
    started = perf_counter()
    try:
        await _attempt(webhooks, job_id, url, owner)
    except DeliveryFailed as error:
        webhooks.tally.add_call(WEBHOOK_LANE, "", "failed", (perf_counter() - started) * 1000)
        log.info("webhook_failed", job=job_id, attempt=attempt.number, reason=str(error))
        if not error.final and attempt.number <= len(DELAYS_S):
            delay_s = DELAYS_S[attempt.number - 1]
            return Retry(delay_s * random.uniform(0.9, 1.1))  # noqa: S311 — spreads them
        return Finished(Result(error=str(error), attempts=attempt.number))
    webhooks.tally.add_call(WEBHOOK_LANE, "", "", (perf_counter() - started) * 1000)
    return Finished(Result(attempts=attempt.number))


async def _attempt(webhooks: Webhooks, job_id: str, url: str, owner: str) -> None:
    if webhooks.secret is None:
        raise DeliveryFailed("the workers have no WEBHOOK_SECRET")
    try:
        body = _body(await webhooks.jobs.summary(job_id, owner))
    except JobNotFound:
        raise DeliveryFailed("the job's results have expired", final=True) from None
    except (RedisError, OSError):
        raise DeliveryFailed("the state of the job could not be read") from None
    timestamp = str(int(datetime.now(UTC).timestamp()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "llm-batch-orchestrator",
        "webhook-id": job_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": _signature(webhooks.secret, job_id, timestamp, body),
    }
    _judge(await post(url, headers, body, allow_private=webhooks.allow_private))


def _body(job: JobSummary) -> bytes:
    summary = job.model_dump(mode="json", exclude={"webhook"})
    links = {"job": f"/jobs/{job.job_id}", "results": f"/jobs/{job.job_id}/results"}
    return orjson.dumps(
        {
            "type": "job.finished",
            "timestamp": summary["finished_at"],
            "data": {**summary, "links": links},
        }
    )


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{b64encode(hmac.digest(key, signed, 'sha256')).decode()}"


def _judge(status: int) -> None:
    if 200 <= status < 300:  # noqa: PLR2004 — as RFC 9110 counts them
        return
    if 300 <= status < 400:  # noqa: PLR2004
        raise DeliveryFailed(f"{status}: redirects are not followed", final=True)
    raise DeliveryFailed(f"answered {status}", final=status == GONE)


async def post(url: str, headers: dict[str, str], body: bytes, *, allow_private: bool) -> int:
    """Returns the status. The address is checked as it is connected to: a name may resolve to
    another one each time."""
    tried = refused = 0

    def checked_socket(address: Any) -> socket.socket:  # noqa: ANN401 — as getaddrinfo has it
        nonlocal tried, refused
        family, kind, protocol, _, (host, *_) = address
        tried += 1
        if not (allow_private or is_public(host)):
            refused += 1
            raise OSError("not a public address")
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        resolver=_Resolver(), socket_factory=checked_socket, force_close=True
    )
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            aiohttp.ClientSession(connector=connector) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status
    except TimeoutError:
        raise DeliveryFailed(f"no answer in {TIMEOUT_S:g} s") from None
    except (aiohttp.InvalidURL, UnicodeError):  # the latter of a name with empty parts
        raise DeliveryFailed("not a URL that can be connected to", final=True) from None
    except (aiohttp.ClientError, OSError) as error:
        if refused and refused == tried:
            raise DeliveryFailed("not a public address: no connection made", final=True) from None
        raise DeliveryFailed(f"no connection ({type(error).__name__})") from None


class _Resolver(AbstractResolver):
    """In threads of its own: uvloop has four for all names that the process looks up, and a name
    server that does not answer would hold up the calls of providers."""

    _threads = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, "webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=of,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for of, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        pass


def is_public(host: str) -> bool:
    """False for all that is not the internet's (IANA's special-purpose registries), also behind an
    IPv6 address that stands for an IPv4 one."""
    address: IPv4Address | IPv6Address | None = ip_address(host)
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is None and (address.teredo or address not in _GLOBAL_UNICAST):
            return False
        address = inner or address
    return bool(address and address.is_global and not address.is_multicast)
