"""Shows from inside the nodes that nothing outside answers, and from the bridge that nothing left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab import router
from lab.network import ROUTER

if TYPE_CHECKING:
    from lab.site import Site

OUTSIDE = ("192.0.2.1", "198.51.100.1", "203.0.113.1")  # RFC 5737: addresses of nobody
CAREFUL = """
for address in {addresses}; do
    timeout 2 bash -c "exec 3<>/dev/tcp/$address/443" 2>/dev/null && echo "reached $address"
done
getent hosts debian.org >/dev/null && echo "resolved a name"
ip route show default | grep -v 'via {router} ' | sed 's/^/has a default route that is not declared: /'
true
"""


def escapes(site: Site) -> list[str]:
    """Try from every node to reach outside; return what succeeded, which must be nothing."""
    script = CAREFUL.format(addresses=" ".join(OUTSIDE), router=ROUTER)
    found = []
    for node in site.nodes():
        said = site.ssh(node.name, script).stdout
        found += [f"{node.name} {line}" for line in said.splitlines()]
    return found


def packets_outside(site: Site) -> int:
    """Count packets that were not for the site itself, on the bridge and at the router: zero, if nothing left."""
    on_the_bridge = sum(count for kind, count in site.counters().items() if kind not in ("inside", "cut_off"))
    return max(on_the_bridge, len(router.records(site.name)))
