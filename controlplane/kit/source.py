"""Where a request came from, as far as one asker can be told from another."""

from ipaddress import IPv4Address, ip_address, ip_network


def group(source: str) -> str:
    """Return an address, or the /64 that an IPv6 neighbour can move within at will."""
    try:
        address = ip_address(source)
    except ValueError:
        return source or "local"
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:  # a listener for both kinds shows every IPv4 client within one /64
        return str(address.ipv4_mapped)
    return str(ip_network((address, 64), strict=False))
