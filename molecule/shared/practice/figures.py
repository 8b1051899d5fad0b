"""What a practice site costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.site import Site

# proportional set size: pages that processes share are counted once
PSS = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ { kib += $2 } END { print kib }'"


def memory_mb(site: Site) -> dict[str, int]:
    """Return the memory of all processes of each node, in megabytes."""
    return {node.name: int(site.ssh(node.name, PSS).stdout) * 1024 // 1_000_000 for node in site.nodes()}
