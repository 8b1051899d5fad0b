"""Addresses in a text: URLs, public names, and numbers of networks that the site does not have."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address

from controlplane.bundle.closure.finding import ANY, UNKNOWN, Held, Hit

URL = re.compile(r"\b([a-z][a-z0-9+.-]*)://([^\s/\"'<>\\)\]},;`|]*)", re.IGNORECASE)
NAME = re.compile(
    r"(?<![\w.-])((?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+([a-z]{2,12}))(?![\w-]|\.\w|\()", re.IGNORECASE
)
HOST = re.compile(rf"[\w:.{ANY}{UNKNOWN}-]", re.ASCII)  # else no address but prose, such as https://…
IPV4 = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?![\w]|\.\d)")
IPV6 = re.compile(r"(?<![\w:.])([0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?![\w:])", re.IGNORECASE)

# Schemes whose authority is no machine on a network.
LOCAL_SCHEMES = {"file", "copy", "unix", "redoubt", "ldapi", "sqlite"}
LOCAL_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}
# Reserved by RFC 2606, 6761 and 5737: nobody answers there.
RESERVED_SUFFIXES = (".invalid", ".test", ".localhost")
DOCUMENTATION = (IPv4Network("192.0.2.0/24"), IPv4Network("198.51.100.0/24"), IPv4Network("203.0.113.0/24"))
DOCUMENTATION_6 = IPv6Network("2001:db8::/32")
LINK_LOCAL = IPv4Network("169.254.0.0/32")  # the number of that network, as a rule of the boundary says it: no machine
# Top levels of public names. Those that are also file suffixes or plain words of code are left out: a name under
# them is still found in a URL, in a call that connects, and where a server of time, names or packages is named.
TOP_LEVELS = {
    "com", "org", "net", "edu", "gov", "mil", "int", "arpa", "info", "biz", "io", "ai", "dev", "app", "cloud",
    "online", "site", "xyz", "tech", "store", "tv", "me", "co", "eu", "de", "fr", "uk", "ch", "at", "nl", "be", "lu",
    "li", "dk", "se", "fi", "no", "ie", "es", "pt", "it", "gr", "cz", "sk", "hu", "ro", "bg", "hr", "si", "ee", "lv",
    "lt", "mt", "cy", "ua", "tr", "us", "ca", "mx", "br", "ar", "cl", "pe", "au", "nz", "jp", "cn", "hk", "tw", "kr",
    "sg", "th", "vn", "ph", "my", "ae", "sa", "il", "qa", "za", "ng", "ke", "eg", "ru", "by", "kz", "su", "gg", "im",
    "is", "example",
}  # fmt: skip


def urls(text: str, held: Held) -> Iterator[Hit]:
    """Yield URLs whose machine is not one of the site."""
    for scheme, authority in URL.findall(text):
        host = _host(authority)
        if scheme.lower() in LOCAL_SCHEMES or not HOST.match(host):
            continue
        if UNKNOWN in host:
            yield Hit("address", f"{scheme}://… whose machine is known only while it runs: {_legible(text)}")
        elif not is_of_site(host, held):
            yield Hit("address", f"{scheme}://{host}")


def names(text: str, held: Held) -> Iterator[Hit]:
    """Yield public names outside URLs."""
    for name, top in NAME.findall(URL.sub(" ", text)):
        if top.lower() in TOP_LEVELS and not is_of_site(name, held):
            yield Hit("address", name)


def numbers(text: str, held: Held) -> Iterator[Hit]:
    """Yield addresses of networks that the site does not have."""
    for address in (*IPV4.findall(URL.sub(" ", text)), *IPV6.findall(text)):
        if _is_address(address) and not is_of_site(address, held):
            yield Hit("address", address)


def is_of_site(host: str, held: Held) -> bool:
    """Tell whether a name or address is inside the boundary, or nobody's."""
    host = host.lower().strip("[]").rstrip(".")
    if ANY in host:
        return True
    if not _is_address(host):
        return host in held.hosts or host in LOCAL_NAMES or host.endswith(RESERVED_SUFFIXES)
    address = ip_address(host)
    if address.is_loopback or address.is_unspecified:
        return True
    if address.version == 6:
        return address in DOCUMENTATION_6
    known = (*held.networks, *DOCUMENTATION, LINK_LOCAL)
    return host.startswith("255.") or any(address in network for network in known)


def _host(authority: str) -> str:
    host = authority.rpartition("@")[2]
    return host.partition("]")[0].strip("[") if host.startswith("[") else host.partition(":")[0]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _legible(text: str) -> str:
    return text.replace(ANY, "…").replace(UNKNOWN, "…").strip()[:100]
