"""Decides whether a host name or an address leads to this machine."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address


@lru_cache(maxsize=100)
def is_loopback(host: str) -> bool:
    """Returns whether a connection to `host` stays on this machine.

    Names below `localhost` (RFC 6761, 6.3) and, as a destination, the unspecified address do.
    """
    address = parse_ip(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def parse_ip(host: str) -> IPv4Address | IPv6Address | None:
    """Returns the address, or None for a name. Unwraps an IPv4 address inside an IPv6 address."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
