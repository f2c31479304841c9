"""Checks the texts of settings, and converts the texts to the values that the program uses."""

import re
from base64 import b64decode
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr

_MIN_SECRET_BYTES, _MAX_SECRET_BYTES = 24, 64  # limits that Standard Webhooks prescribes
OWNER = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_REDIS_FORMS = (
    "must be redis://host, rediss://host, unix:///path or redis+sentinel://host,host/master"
)


def http_url(url: str) -> str:
    """Returns `url` without slashes at its end. Raises ValueError unless it can be a base URL."""
    parts = urlsplit(url)
    if set(header_text(url)) & set(" {}"):
        raise ValueError("must not contain spaces or braces")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must start with http:// or https:// and contain a host")
    if parts.port == 0 or parts.query or parts.fragment:
        raise ValueError("must not contain port 0, a query or a fragment")
    return url.rstrip("/")


def root_path(path: str) -> str:
    """Returns the path without slashes at its end. Raises ValueError unless it is a path or ""."""
    path = path.rstrip("/")
    if path and (not path.startswith("/") or " " in header_text(path) or {"?", "#"} & {*path}):
        raise ValueError("must start with / and contain no space, ? or #")
    return path


def header_text(text: str) -> str:
    """Returns `text` if an HTTP header may contain it (RFC 9110, 5.5). Raises ValueError."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must contain only printable ASCII characters")
    return text


def key_text(key: SecretStr) -> SecretStr:
    """Returns `key` if an HTTP header may contain it. Raises ValueError."""
    header_text(key.get_secret_value())
    return key


def redis_url(url: str) -> str:
    """Returns `url` if it has a form that the Redis client accepts. Raises ValueError."""
    # Importing the client of Redis takes longer than reading all settings.
    from redis.asyncio.connection import parse_url  # noqa: PLC0415

    from shared.redis import sentinel  # noqa: PLC0415

    behind_sentinel = url.startswith(f"{sentinel.SCHEME}://")
    try:
        (sentinel.parse_sentinel_url if behind_sentinel else parse_url)(url)
    except ValueError:
        # The text of the caught error may repeat a part of the URL, such as its password.
        raise ValueError(f"{_REDIS_FORMS}; a part of the URL is wrong") from None
    parts = urlsplit(url)
    if not (parts.hostname or parts.path):
        raise ValueError(_REDIS_FORMS)
    return url


def blank_is_unset(value: object) -> object:
    """Returns None for a text that is empty or white space, otherwise the value."""
    return None if isinstance(value, str) and not value.strip() else value


UNSET_IF_BLANK = BeforeValidator(blank_is_unset)
Concurrency = Annotated[int, Field(ge=1, le=100_000)]
TimeoutSeconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Holds an API key's owner and digest, so that a reader of the settings cannot use the key."""

    owner: str
    sha256: bytes


def api_keys(text: object) -> object:
    """Returns the ApiKeys of the text `NAME:DIGEST, …`. Returns a value that is no text unchanged.

    Commas or white space separate the entries. Raises ValueError.
    """
    if not isinstance(text, str):
        return text
    keys = []
    for number, entry in enumerate(text.replace(",", " ").split(), 1):
        owner, _, digest = entry.partition(":")
        if not OWNER.fullmatch(owner):
            raise ValueError(
                f"entry {number}: the name must be 1 to 64 of the characters A-Z a-z 0-9 _ . -"
            )
        if not _SHA256.fullmatch(digest):
            raise ValueError(
                f"entry {number}: must be NAME:DIGEST; DIGEST is the key's SHA-256 in 64 hex digits"
            )
        keys.append(ApiKey(owner, bytes.fromhex(digest)))
    return tuple(keys)


def hosts(text: object) -> object:
    """Returns the hosts of the text, in lower case. Returns a value unchanged if it is not a text.

    Commas or white space separate the hosts. Raises ValueError if an entry is not a host.
    """
    if not isinstance(text, str):
        return text
    hosts = [entry.lower().strip("[]").rstrip(".") for entry in text.replace(",", " ").split()]
    for number, host in enumerate(hosts, 1):
        if not (_HOST.fullmatch(host) or _is_address(host)):
            raise ValueError(
                f"entry {number}: must be a name, an address, or *. and a name, without a scheme"
                " and a port, for example llm.example.com"
            )
    return tuple(hosts)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def webhook_secret(secret: SecretStr) -> SecretStr:
    """Returns the secret if it has the form of Standard Webhooks, with or without `whsec_`.

    Raises ValueError.
    """
    text = secret.get_secret_value().removeprefix("whsec_")
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
        raise ValueError("must be whsec_ followed by 24 to 64 bytes in base64")
    return secret
