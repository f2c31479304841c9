"""Parses Sentinel URLs: `redis+sentinel://[user:password@]host[:port],…/master[/db]`.

The hosts are the addresses of the sentinels (default port: 26379). The user and the password belong
to Redis, not to the sentinels.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.connection import parse_url

SCHEME = "redis+sentinel"
_DEFAULT_PORT = 26379


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    sentinels: tuple[tuple[str, int], ...]
    master: str
    options: dict[str, Any]  # options of the connection to Redis: username, password, db


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Parses `url`. Raises ValueError, whose text may repeat a part of the URL."""
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    master, _, db = parts.path.strip("/").partition("/")
    sentinels = [urlsplit(f"//{host}") for host in hosts.split(",")]
    if not master or not all(sentinel.hostname for sentinel in sentinels):
        raise ValueError(
            "the URL must contain the name of the master and the host of each sentinel"
        )
    if db and not db.isdecimal():
        raise ValueError("the database after the name of the master must be a number")
    options = parse_url(f"redis://{credentials}{at}ignored/{db}?{parts.query}")
    del options["host"]
    return SentinelUrl(
        tuple((str(sentinel.hostname), sentinel.port or _DEFAULT_PORT) for sentinel in sentinels),
        master,
        dict(options),
    )
