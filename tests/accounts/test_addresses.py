"""A private address is private in every spelling, also inside of an IPv6 address that a router takes apart."""

import pytest

from accounts import addresses

PRIVATE = [
    "127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",  # noqa: S104
    "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254",  # mapped
    "::127.0.0.1", "::8.8.8.8",  # compatible
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b:1::808:808",  # NAT64
    "2002:7f00:1::1", "2002:c0a8:1::", "2002:a9fe:a9fe::",  # 6to4
    "2001:0:7f00:1::f7f7:f7f7", "2001:0:808:808:0:0:80ff:fffe",  # Teredo: its server, its client (inverted)
]  # fmt: skip
PUBLIC = ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_in_every_spelling(address: str) -> None:
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_is_public(address: str) -> None:
    assert addresses.is_public(address)


def test_what_is_no_address_is_told_apart() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        addresses.is_public("example.com")
