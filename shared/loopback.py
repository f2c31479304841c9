"""Decides whether a host name or an address leads to this machine."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address


@lru_cache(maxsize=100)
def is_loopback(host: str) -> bool:
    """Returns whether a connection to `host` stays on this machine.

    This is so for loopback addresses, for `localhost` and names below it (RFC 6761, 6.3), and for
    the unspecified address, which as a destination means this machine. Names must be in lower case.
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
