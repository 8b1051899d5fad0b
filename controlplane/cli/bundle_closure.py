"""redoubt bundle verify --closure: what a site could reach for and neither the lock holds nor the spec declares."""

import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from controlplane.bundle.lock import Lock, read_lock
from controlplane.bundle.recipe import read_recipe
from controlplane.cli.screen import say, show_json
from controlplane.cli.site_options import read_site
from controlplane.kit.errors import Refused
from controlplane.sitespec.render import BundleFacts, host_inputs, roles_of
from controlplane.sitespec.spec import Site

if TYPE_CHECKING:
    from controlplane.bundle.closure.finding import Finding

REPOSITORY_LOCK = Path("images/bundle.lock")
ALLOWANCES = Path("images/closure.toml")
RECIPE = Path("images/bundle.toml")
NO_BUNDLE = BundleFacts(digest="0" * 64, apt_key="", root="", models=())


def check_closure(inventory: Path, *, lock: Path | None, project: Path = Path(), as_json: bool = False) -> None:
    """Show every gap of a site's inventory; raises Refused when there is one."""
    started = time.monotonic()
    spec, read_from = _spec_of(inventory), lock or project / REPOSITORY_LOCK
    site, text = read_site(spec)
    gaps = find_gaps_of(site, spec, text, read_lock(read_from), project)
    seconds = round(time.monotonic() - started, 1)
    if as_json:
        told = [{"path": g.path, "line": g.line, "kind": g.kind, "what": g.what, "remedy": g.remedy} for g in gaps]
        facts = {"site": site.name, "lock": str(read_from), "nodes": len(site.nodes), "closed": not gaps}
        show_json({**facts, "gaps": told, "seconds": seconds})
    elif not gaps:
        say(f"closed: nothing of site {site.name} reaches beyond {read_from} and {spec} ({seconds} s)")
    refuse_gaps(site, gaps)


def refuse_open_sites(inventories: Sequence[Path], lock: Lock, project: Path) -> None:
    """Raise Refused for the first of these sites that could reach for something a lock does not hold."""
    for inventory in inventories:
        spec = _spec_of(inventory)
        site, text = read_site(spec)
        refuse_gaps(site, find_gaps_of(site, spec, text, lock, project))


def lock_of(bundle: Path | None) -> Path | None:
    """Return the lock that a built bundle carries, if a folder is named."""
    return bundle / "lock.json" if bundle and bundle.is_dir() else None


def refuse_gaps(site: Site, gaps: "tuple[Finding, ...]") -> None:
    """Raise Refused with every gap at its place."""
    if gaps:
        detail = f"site {site.name} is not closed: {len(gaps)} gap{'s' if len(gaps) > 1 else ''}, first {gaps[0]}"
        reasons = tuple(f"{gap}; next: {gap.remedy}" for gap in gaps)
        raise Refused(detail, remedy=gaps[0].remedy, code="not_closed", reasons=reasons)


def find_gaps_of(site: Site, spec: Path, text: str, lock: Lock, project: Path) -> "tuple[Finding, ...]":
    """Return everything that nothing holds, declares or excuses."""
    # Jinja is there only where playbooks are, and the command itself must start without it.
    from controlplane.bundle.closure.allowances import read_allowances, without_allowed  # noqa: PLC0415 - see above
    from controlplane.bundle.closure.finding import Finding  # noqa: PLC0415 - see above
    from controlplane.bundle.closure.held import hold  # noqa: PLC0415 - see above
    from controlplane.bundle.closure.walk import Use, find_gaps  # noqa: PLC0415 - see above

    held = hold(
        lock,
        models=frozenset(read_recipe(project / RECIPE).models),
        hosts=frozenset(node.name for node in site.nodes),
        networks=_networks(site),
    )
    uses = [Use(node.name, roles_of(site, node), host_inputs(site, node, NO_BUNDLE, ())) for node in site.nodes]
    lacking = [name for name in site.models if name not in held.models]
    models = [Finding(str(spec), _line(text, name), "model", name) for name in lacking]
    left, _ = without_allowed((*models, *find_gaps(project, uses, held)), read_allowances(project / ALLOWANCES))
    return left


def _spec_of(inventory: Path) -> Path:
    return inventory / "site.yml" if inventory.is_dir() else inventory


def _networks(site: Site) -> tuple[IPv4Network, ...]:
    """Return every network and address that the spec declares for the site."""
    given = (getattr(site.network, field) for field in type(site.network).model_fields)
    flat = [one for value in given for one in (value if isinstance(value, tuple) else (value,))]
    return tuple(IPv4Network(one) for one in flat if isinstance(one, IPv4Address | IPv4Network))


def _line(text: str, word: str) -> int:
    return next((number for number, line in enumerate(text.splitlines(), start=1) if word in line), 1)
