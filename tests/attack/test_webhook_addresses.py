"""Tests that webhooks reach no address of IANA's special-purpose registries."""

import asyncio
from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from support.jobs import lines, upload
from support.stack import Start, eventually

from worker.public_address import is_public

# All blocks of https://www.iana.org/assignments/iana-ipv4-special-registry, and multicast.
IPV4 = [
    "0.0.0.0/8",
    "0.0.0.0/32",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.0.0/29",
    "192.0.0.8/32",
    "192.0.0.9/32",
    "192.0.0.10/32",
    "192.0.0.170/32",
    "192.0.0.171/32",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.88.99.2/32",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "224.0.0.0/4",
]
# All blocks of https://www.iana.org/assignments/iana-ipv6-special-registry, multicast, and the
# blocks of RFC 3879 and RFC 4291 that are no longer in use. Blocks that contain IPv4 addresses are
# tested below.
IPV6 = [
    "::1/128",
    "::/128",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:2::/48",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
    "fec0::/10",
    "::/96",
]
CONTAINING_IPV4 = ["::ffff:{}", "64:ff9b::{}"]
LAST = [ip_address("255.255.255.255"), ip_address("ff" * 2 + ":ffff" * 7)]


@pytest.mark.parametrize("block", [*IPV4, *IPV6])
def test_no_address_of_a_special_block_is_public(block: str) -> None:
    network = ip_network(block)
    middle = network[network.num_addresses // 2]
    assert not any(is_public(str(address)) for address in (network[0], middle, network[-1]))


@pytest.mark.parametrize("block", IPV4)
def test_no_ipv6_address_that_contains_a_special_ipv4_address_is_public(block: str) -> None:
    for inner in (ip_network(block)[0], ip_network(block)[-1]):
        sixtofour = IPv6Address((0x2002 << 112) | (int(inner) << 80) | 1)
        texts = [form.format(inner) for form in CONTAINING_IPV4]
        assert not any(map(is_public, [*texts, str(sixtofour)]))


def test_the_addresses_beside_the_special_blocks_are_public() -> None:
    special = [ip_network(block) for block in [*IPV4, *IPV6]]
    inner = [network for network in special if int(network[0]) > 0 and network[-1] not in LAST]
    beside = [address for n in inner for address in (n[0] - 1, n[-1] + 1)]
    public = [
        address
        for address in beside
        if not any(address in network for network in special)
        and (address.version == 4 or address in ip_network("2000::/3"))
    ]
    assert len(public) > 25
    assert [address for address in public if not is_public(str(address))] == []


@pytest.mark.parametrize(
    "host", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::"]
)
def test_a_usual_address_is_public(host: str) -> None:
    assert ip_address(host)
    assert is_public(host)


HOSTS = ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "0x7f000001", "192.88.99.1"]
REFUSED = "the address is not public: no connection was made (see WEBHOOK_ALLOW_PRIVATE)"


async def test_no_connection_is_made_to_a_private_address(stack: Start) -> None:
    """`localhost` and unusual forms are names until they are resolved."""
    deployment = await stack(workers=1, WEBHOOK_SECRET="whsec_" + "A" * 32)
    connections = 0

    async def count(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for host in HOSTS:
            webhook = {"webhook_url": f"http://{host}:{port}/hook"}
            await upload(deployment.api, lines(["x"]), params=webhook)
        errors = dict[str, str]()

        async def are_refused() -> bool:
            jobs = (await deployment.api.get("/jobs")).json()["jobs"]
            errors.update({job["webhook"]["url"]: job["webhook"]["error"] for job in jobs})
            return all(job["webhook"]["status"] == "given_up" for job in jobs)

        await eventually(are_refused)

    assert {*errors.values()} == {REFUSED}
    assert connections == 0
