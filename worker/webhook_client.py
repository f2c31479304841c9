"""Posts to a URL that a user chose, without letting it reach the operator's own network."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

TIMEOUT_S = 10.0
MAX_LOOKUPS = 10  # at once; as many as there are deliveries
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all that IANA has allocated


class DeliveryFailed(Exception):
    """A webhook was not delivered; `final` says that a retry would fail, too.

    The text gives the reason, which the job's owner sees, and never the URL, which may hold a
    secret.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


async def post(url: str, headers: dict[str, str], body: bytes, *, allow_private: bool) -> int:
    """Posts `body` and returns the status. Raises DeliveryFailed.

    The address is checked when the socket is made, because a name can resolve to another address
    each time. Redirects are not followed.
    """
    attempted = refused = 0

    def checked_socket(address: Any) -> socket.socket:  # noqa: ANN401 — an entry of getaddrinfo
        nonlocal attempted, refused
        family, kind, protocol, _, (host, *_) = address
        attempted += 1
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
    except (aiohttp.InvalidURL, UnicodeError):  # UnicodeError: a name with an empty part
        raise DeliveryFailed("the URL does not name a valid host", final=True) from None
    except (aiohttp.ClientError, OSError) as error:
        if refused and refused == attempted:
            reason = "the address is not public: no connection was made (see WEBHOOK_ALLOW_PRIVATE)"
            raise DeliveryFailed(reason, final=True) from None
        raise DeliveryFailed(f"the connection failed ({type(error).__name__})") from None


class _Resolver(AbstractResolver):
    """Looks names up in threads of its own.

    uvloop has four threads for all names that the process looks up, so a name server that does not
    answer would delay the calls to providers.
    """

    _threads = ThreadPoolExecutor(MAX_LOOKUPS, "webhook-names")

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
                family=family_found,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for family_found, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        pass


def is_public(host: str) -> bool:
    """Returns whether an address belongs to the internet (IANA's special-purpose registries).

    Of an IPv6 address that stands for an IPv4 one, the IPv4 address counts.
    """
    address: IPv4Address | IPv6Address | None = ip_address(host)
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is None and (address.teredo or address not in _GLOBAL_UNICAST):
            return False
        address = inner or address
    return bool(address and address.is_global and not address.is_multicast)
