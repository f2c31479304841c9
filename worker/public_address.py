"""Decides whether an IP address is public."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

# The blocks of IANA's special-purpose address registries, and the multicast blocks. Blocks that are
# "globally reachable" are refused, too, because they are anycast services, never a user's server.
# `ipaddress` has most of the blocks, but they differ between versions of Python.
# https://www.iana.org/assignments/iana-ipv4-special-registry
# https://www.iana.org/assignments/iana-ipv6-special-registry
_SPECIAL_IPV4 = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
    *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
)
_SPECIAL_IPV6 = ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20")
_SPECIAL = [ip_network(block) for block in (*_SPECIAL_IPV4, *_SPECIAL_IPV6)]
_GLOBAL_UNICAST = ip_network("2000::/3")  # IANA allocates public IPv6 addresses only from here
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052


def is_public(host: str) -> bool:
    """Returns whether an IP address is public. Raises ValueError if `host` is no IP address.

    A public address is in no special-purpose block. A public IPv6 address is also in the block from
    which IANA allocates. If an IPv6 address contains an IPv4 address, the IPv4 address is checked.
    """
    address = ip_address(host)
    if isinstance(address, IPv6Address):
        inner = _contained(address)
        if inner is None and address not in _GLOBAL_UNICAST:
            return False
        address = inner or address
    return not any(address in block for block in _SPECIAL)


def _contained(address: IPv6Address) -> IPv4Address | None:
    """Returns the IPv4 address that gets packets for `address`, or None."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
