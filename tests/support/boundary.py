"""The files of the role boundary as Ansible would write them, without Ansible."""

import hashlib
from pathlib import Path
from typing import Any

import jinja2
import yaml

from controlplane.sitespec.render import BundleFacts, host_inputs
from controlplane.sitespec.spec import Site

ROLE = Path(__file__).parents[2] / "playbooks" / "roles" / "boundary"
NO_BUNDLE = BundleFacts(digest="0" * 64, apt_key="", models=(), root="0" * 64)


def inputs_of(site: Site, name: str) -> dict[str, Any]:
    """Return what the site asks of the role on one node."""
    inputs = host_inputs(site, site.node(name), NO_BUNDLE, ())
    return {key: value for key, value in inputs.items() if key.startswith("boundary_")}


def rules(inputs: dict[str, Any]) -> str:
    """Return the text of the rules."""
    return _render("boundary.nft.j2", inputs)


def unit(inputs: dict[str, Any]) -> str:
    """Return the text of the unit, which carries the rules that need no file."""
    ssh = _way_in(inputs)
    closed = {
        "boundary_neighbours": ssh[0]["peers"],
        "boundary_inbound": ssh,
        "boundary_outbound": [],
        "boundary_projects": [],
    }
    return _render("redoubt-boundary.service.j2", {**inputs, "__boundary_closed_rules": rules(inputs | closed)})


def without(inputs: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the same inputs without some rules."""
    sides = ("boundary_inbound", "boundary_outbound")
    return inputs | {side: [rule for rule in inputs[side] if rule["name"] not in names] for side in sides}


def _render(template: str, inputs: dict[str, Any]) -> str:
    world = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    world.filters["hash"] = lambda text, kind: hashlib.new(kind, text.encode()).hexdigest()
    texts = [(ROLE / "vars" / f"{name}.yml").read_text() for name in ("main", "Debian_13")]
    own = yaml.safe_load(texts[0]) | yaml.safe_load(texts[1]) | {"__boundary_way_in": _way_in(inputs)}
    return world.get_template(template).render(own | inputs) + "\n"


def _way_in(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for rule in inputs["boundary_inbound"] if rule["name"] == "ssh"]
