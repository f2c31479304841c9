"""Redis behind Sentinel, as a URL: `redis+sentinel://[user:password@]host[:port],…/master[/db]`.

The hosts are the sentinels, 26379 their port unless given; user and password are those of Redis.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.connection import parse_url

SCHEME = "redis+sentinel"
_PORT = 26379


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    sentinels: tuple[tuple[str, int], ...]
    master: str
    options: dict[str, Any]  # of a connection to Redis


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Raises ValueError, which may repeat a part of the URL."""
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    master, _, db = parts.path.strip("/").partition("/")
    sentinels = [urlsplit(f"//{host}") for host in hosts.split(",")]
    if not master or not all(sentinel.hostname for sentinel in sentinels):
        raise ValueError("a master's name and a host of each sentinel are needed")
    if db and not db.isdecimal():
        raise ValueError("the database is a number")
    options = parse_url(f"redis://{credentials}{at}ignored/{db}?{parts.query}")
    del options["host"]
    return SentinelUrl(
        tuple((str(sentinel.hostname), sentinel.port or _PORT) for sentinel in sentinels),
        master,
        dict(options),
    )
