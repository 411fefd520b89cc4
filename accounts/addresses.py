"""Which addresses of the internet the portal may be sent to by people: public ones, whatever way they are written."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address, IPv6Network

# NAT64 (RFC 6052): the last 32 bits are the IPv4 address that is really reached. Its local-use prefix (RFC 8215) may
# lead anywhere in the operator's own network; IPv4-compatible addresses are long given up.
NAT64 = IPv6Network("64:ff9b::/96")
NEVER = (IPv6Network("64:ff9b:1::/48"), IPv6Network("::/96"))


def is_public(address: str) -> bool:
    """Whether this IP address, and any IPv4 address inside of it, is of the public internet. A zone is left away;
    ValueError for what is no address."""
    ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(ip, IPv6Address):
        if any(ip in network for network in NEVER):
            return False
        if inside := _inside(ip):
            return all(_is_global(one) for one in inside)
    return _is_global(ip)


def _inside(ip: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that it stands for: mapped, NAT64, 6to4, Teredo's server and client."""
    if ip.ipv4_mapped:
        return [ip.ipv4_mapped]
    if ip in NAT64:
        return [IPv4Address(int(ip) & 0xFFFFFFFF)]
    if ip.sixtofour:
        return [ip.sixtofour]
    return list(ip.teredo or ())


def _is_global(ip: IPv4Address | IPv6Address) -> bool:
    return ip.is_global and not ip.is_multicast
