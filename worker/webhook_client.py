"""Posts to a URL that a user chose, and refuses addresses in the operator's private network."""

import asyncio
import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from worker.name_lookup import TIMEOUT_S as LOOKUP_TIMEOUT_S
from worker.name_lookup import TooManyLookups, look_up
from worker.public_address import is_public

TIMEOUT_S = 10.0


class DeliveryFailed(Exception):
    """A webhook was not delivered. If `final`, a retry would fail, too.

    `str(error)` is the reason, which the job's owner can read. It never contains the URL, because
    the URL may contain a secret.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


async def post(
    url: str, headers: dict[str, str], body: bytes, *, allow_private: bool, owner: str = ""
) -> int:
    """Posts `body` and returns the HTTP status. Raises DeliveryFailed if there is no response.

    Addresses that are not public are refused unless `allow_private` is set. The address is checked
    when the socket is opened, because a host name can resolve to a different address at each
    lookup. Redirects are not followed.

    owner: the lookup of the host name uses this owner's share: see `look_up`.
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
        resolver=_Resolver(owner), socket_factory=checked_socket, force_close=True
    )
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            aiohttp.ClientSession(connector=connector) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status
    except TimeoutError:
        raise DeliveryFailed(f"the webhook did not answer in {TIMEOUT_S:g} s") from None
    except (aiohttp.InvalidURL, UnicodeError):  # a name with an empty part raises UnicodeError
        raise DeliveryFailed("the URL does not name a valid host", final=True) from None
    except (aiohttp.ClientError, OSError) as error:
        if refused and refused == attempted:
            reason = "the address is not public: no connection was made (see WEBHOOK_ALLOW_PRIVATE)"
            raise DeliveryFailed(reason, final=True) from None
        raise DeliveryFailed(f"the connection failed ({type(error).__name__})") from None


class _Resolver(AbstractResolver):
    def __init__(self, owner: str) -> None:
        self._owner = owner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            found = await look_up(self._owner, host, port, family)
        except TooManyLookups:
            reason = "too many lookups of your webhooks' host names wait for a name server"
            raise DeliveryFailed(reason) from None
        except TimeoutError:
            reason = f"the name of the host was not found in {LOOKUP_TIMEOUT_S:g} s"
            raise DeliveryFailed(reason) from None
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
