"""Lines of configuration that point a node somewhere: sources, clocks, name servers, proxies, images, models."""

import re
from collections.abc import Iterator

from controlplane.bundle.closure.addresses import is_of_site
from controlplane.bundle.closure.finding import ANY, Held, Hit

COMMENT = re.compile(r"^\s*(?:#(?!!)|//|;|--\s)")
APT_LINE = re.compile(r"^\s*deb(?:-src)?\s+(?:\[[^]]*\]\s*)?([a-z][a-z0-9+]*):(\S*)\s+\S+", re.IGNORECASE)
UNSIGNED = re.compile(r"trusted\s*[=:]\s*yes|allow-(?:insecure|unauthenticated)|AllowUnauthenticated\s", re.IGNORECASE)
TIME = re.compile(r"^\s*(?:server|pool|peer|NTP\s*=|FallbackNTP\s*=)\s*(\S[^#;{]*)", re.IGNORECASE)
TIME_OPTION = re.compile(
    r"^\s*(?:server|pool|peer)\s+(\S+)(?:\s+(?:i?burst|minpoll|maxpoll|prefer|nts|offline|xleave|key|maxsources)\b.*)?\s*$"
)
NAME_SERVER = re.compile(r"^\s*(?:nameserver\s+|(?:Fallback)?DNS\s*=\s*|resolver\s+)(\S.*)", re.IGNORECASE)
PROXY = re.compile(r"\b(?:https?|ftp|all|rsync)_proxy\b\s*[=:]\s*[\"']?([^\s\"']+)", re.IGNORECASE)
APT_PROXY = re.compile(r"Acquire::\w+::Proxy(?:-Auto-Detect)?\s+\"?([^\s\";]+)|--proxy[= ](\S+)", re.IGNORECASE)
IMAGE = re.compile(r"^\s*(?:-\s+)?(?:image\s*:|Image\s*=|FROM\s)\s*[\"']?([\w][\w./:@-]*)")
WEIGHTS = re.compile(r"(?<![\w*.-])([\w][\w.-]*\.(?:gguf|safetensors|ckpt|pth|onnx))\b", re.IGNORECASE)
HUB = re.compile(
    r"(?:from_pretrained|snapshot_download|hf_hub_download|--hf-repo|--repo-id|--hf|--model(?:-id)?)[\s=(\"']+"
    r"([A-Za-z0-9][\w.-]*/[\w.-]+)"
)


def is_comment(line: str) -> bool:
    """Tell whether no program reads a line."""
    return bool(COMMENT.match(line))


def package_sources(text: str, held: Held) -> Iterator[Hit]:
    """Yield apt sources that are not the depot, and the words that switch signatures off."""
    if found := APT_LINE.match(text):
        scheme, rest = found.groups()
        host = rest.strip("/").partition("/")[0].partition(":")[0]
        if scheme.lower() not in {"file", "copy"} and not is_of_site(host, held):
            yield Hit("source", f"{scheme}:{rest}")
    if found := UNSIGNED.search(text):
        yield Hit("source", f"unsigned: {found.group().strip()}")


def time_sources(text: str, held: Held) -> Iterator[Hit]:
    """Yield clocks that the site does not declare."""
    found = TIME_OPTION.match(text) or (TIME.match(text) if "NTP" in text else None)
    for host in found.group(1).split() if found else ():
        if not is_of_site(host.strip("\"'"), held) and not host.startswith(("{", "unix:")):
            yield Hit("time", host)


def name_servers(text: str, held: Held) -> Iterator[Hit]:
    """Yield servers of names; inside the boundary there are none."""
    found = NAME_SERVER.match(text)
    for host in found.group(1).split() if found else ():
        if not is_of_site(host.strip("\"';"), held):
            yield Hit("name service", host)


def proxies(text: str, held: Held) -> Iterator[Hit]:
    """Yield proxies that are switched on."""
    del held  # no proxy is right, whoever runs it
    for found in (*PROXY.findall(text), *("".join(both) for both in APT_PROXY.findall(text))):
        if found.lower() not in {"false", "direct", "none", "''", '""'} and ANY not in found:
            yield Hit("proxy", found)


def images(text: str, held: Held) -> Iterator[Hit]:
    """Yield container images that the lock does not hold."""
    if (found := IMAGE.match(text)) and not is_held_image(found.group(1), held):
        yield Hit("image", found.group(1))


def is_held_image(reference: str, held: Held) -> bool:
    """Tell whether the lock holds an image, whatever tag or digest it is asked by."""
    name = reference.partition("@")[0]
    last = name.rpartition("/")[2]
    return bool({reference, name, name[: len(name) - len(last)] + last.partition(":")[0]} & held.images)


def weights(text: str, held: Held) -> Iterator[Hit]:
    """Yield models that the lock does not hold."""
    for name in (*WEIGHTS.findall(text), *HUB.findall(text)):
        if name not in held.models and name.rpartition(".")[0] not in held.models:
            yield Hit("model", name)


def resolver_files(text: str, held: Held) -> Iterator[Hit]:
    """Yield the writing of a resolver's file; what it would say is not known here."""
    del held  # no resolver is right
    if "resolv.conf" in text or "systemd-resolved" in text:
        yield Hit("name service", text.strip()[:80].replace(ANY, "…"))
