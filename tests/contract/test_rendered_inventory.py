"""Ansible takes a misspelt variable in silence, so the rendered names are held against the specs of the roles."""

from functools import cache
from pathlib import Path
from typing import Any  # specs are free-form YAML

import pytest
import yaml

from controlplane.sitespec.render import APPLY_INPUTS, BundleFacts, host_inputs, roles_of
from controlplane.sitespec.text import parse_site

ROLES = Path("playbooks/roles")
CONNECTION = {"ansible_host", "ansible_user"}
MODEL = {
    "name": "practice-tiny", "file": "practice-tiny.gguf", "sha256": "a" * 64, "size_bytes": 1, "format": "gguf",
    "licence": "Apache-2.0", "context_tokens": 1, "weights_bytes": 1, "kv_bytes_per_token": 1, "vocab_tokens": 1,
    "files": (),
}  # fmt: skip
SITES = [parse_site(path.read_text()) for path in sorted(Path("inventory").glob("*/site.yml"))]
NODES = [
    pytest.param(site, node, id=f"{site.name}-{node.name}") for site in SITES for node in site.nodes
]  # fmt: skip


@pytest.mark.parametrize(("site", "node"), NODES)
def test_every_rendered_name_is_in_the_spec_of_a_role_of_that_node(site, node):
    known = {name for role in roles_of(site, node) for name in options(role)}

    unknown = set(inputs_of(site, node)) - known - CONNECTION

    assert not unknown


@pytest.mark.parametrize(("site", "node"), NODES)
def test_every_required_input_is_rendered_or_given_by_apply(site, node):
    required = {
        name for role in roles_of(site, node) for name, option in options(role).items() if option.get("required")
    }

    missing = required - set(inputs_of(site, node)) - APPLY_INPUTS

    assert not missing


@pytest.mark.parametrize(("site", "node"), NODES)
def test_every_rendered_value_has_the_shape_of_its_spec(site, node):
    specs = {name: option for role in roles_of(site, node) for name, option in options(role).items()}

    wrong = [text for name, value in inputs_of(site, node).items() for text in faults(name, value, specs[name])]

    assert not wrong


@pytest.mark.parametrize("role", sorted(path.name for path in ROLES.iterdir()))
def test_inputs_carry_the_name_of_their_role(role):
    strangers = [name for name in options(role) if not name.startswith(f"{role}_")]

    assert not strangers


@pytest.mark.parametrize("role", sorted(path.name for path in ROLES.iterdir()))
def test_defaults_hold_optional_inputs_only(role):
    defaults: dict[str, Any] = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text()) or {}

    declared = {name for name, option in options(role).items() if not option.get("required")}

    assert set(defaults) <= declared


@cache
def options(role: str) -> dict[str, Any]:
    entries = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())["argument_specs"]
    return {name: option for entry in entries.values() for name, option in entry.get("options", {}).items()}


def inputs_of(site, node) -> dict[str, Any]:
    models = tuple({**MODEL, "name": name} for name in site.models)
    return host_inputs(site, node, BundleFacts("d" * 64, "key", models, "{}"), models)


def faults(name: str, value: Any, option: dict[str, Any]) -> list[str]:
    kinds = {"str": str, "path": str, "int": int, "bool": bool, "list": list, "dict": dict}
    if not is_a(value, kinds[option["type"]]):
        return [f"{name}: {value!r} is no {option['type']}"]
    found = [f"{name}: {value!r} is no choice"] if _is_no_choice(value, option) else []
    if option["type"] == "list" and option.get("options"):
        found += [text for entry in value for text in entry_faults(name, entry, option["options"])]
    return found


def is_a(value: Any, kind: type) -> bool:
    return isinstance(value, kind)


def entry_faults(name: str, entry: dict[str, Any], known: dict[str, Any]) -> list[str]:
    unknown = [f"{name}.{key} is not in the spec" for key in set(entry) - set(known)]
    missing = [
        f"{name}.{key} is missing" for key, option in known.items() if option.get("required") and key not in entry
    ]
    inner = [text for key in set(entry) & set(known) for text in faults(f"{name}.{key}", entry[key], known[key])]
    return [*unknown, *missing, *inner]


def _is_no_choice(value: Any, option: dict[str, Any]) -> bool:
    chosen: list[Any] = value if isinstance(value, list) else [value]
    return "choices" in option and not set(chosen) <= set(option["choices"])
