"""Judge what preflight read, in the process that has the product: a block fails the play."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from controlplane.sitespec.preflight.judge import judge
from controlplane.sitespec.preflight.table import summary
from controlplane.sitespec.text import parse_site

DOCUMENTATION = r"""
module: preflight_verdict
short_description: Every check of preflight, and a refusal when one blocks
description:
  - Runs on the control host, with the Python that has the product.
  - In check mode a block is told and stops nothing, for nothing is about to change.
options:
  site:
    description: The site spec.
    type: path
    required: true
  nodes:
    description: What C(node_preflight) returned, by node.
    type: dict
    required: true
  answered:
    description: What the controller's clock said when each node had answered, by node.
    type: dict
    required: true
  control:
    description: What C(preflight_control) returned.
    type: dict
    required: true
  digest:
    description: What C(rendered_digest) has against the inventory; empty when nothing.
    type: str
    required: true
  bundle_digest:
    description: Digest of the bundle that the inventory was rendered for, and of the one that is given.
    type: dict
    required: true
  skipped:
    description: Reasons of checks that are passed over, by id.
    type: json
    default: "{}"
  record:
    description: File that receives every verdict as JSON.
    type: str
    default: ""
author: Redoubt
"""

BUNDLE_FACTS = ("digest", "architecture", "features", "models", "size_bytes", "created_at_s", "expires_at_s")


def answers(given: dict[str, Any], answered: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the facts of each node, or why there are none."""
    found = {}
    for name, result in given.items():
        if "facts" in result:
            found[name] = {**result["facts"], "asked_at": result["asked_at"], "answered_at": float(answered[name])}
        elif not result:
            found[name] = {"unasked": "the run was limited to other nodes"}
        elif result.get("skipped"):
            found[name] = {"unasked": "the inventory is not what site.yml says"}
        else:
            found[name] = {
                "silent": str(result.get("msg", "no answer")).strip().rpartition("ssh: ")[2].splitlines()[0][:200]
            }
    return found


def known_bundle(found: dict[str, Any], digest: str) -> dict[str, Any]:
    """Return the facts of the bundle; without one, each says why it is not known."""
    return dict.fromkeys(BUNDLE_FACTS, found) if "unread" in found else {**found, "digest": digest}


def main() -> None:
    """Judge, record, and fail when a check blocks."""
    module = AnsibleModule(
        argument_spec={
            "site": {"type": "path", "required": True},
            "nodes": {"type": "dict", "required": True},
            "answered": {"type": "dict", "required": True},
            "control": {"type": "dict", "required": True},
            "digest": {"type": "str", "required": True},
            "bundle_digest": {"type": "dict", "required": True},
            "skipped": {"type": "json", "default": "{}"},
            "record": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    path = Path(given["site"])
    control = dict(given["control"])
    bundle = known_bundle(control.pop("bundle"), given["bundle_digest"]["given"])
    verdicts = judge(
        parse_site(path.read_text(encoding="utf-8"), name=str(path)),
        nodes=answers(given["nodes"], given["answered"]),
        control={**control, "input.digest": given["digest"], "input.bundle_digest": given["bundle_digest"]["rendered"]},
        bundle=bundle,
        now=time.time(),
        skipped=json.loads(given["skipped"]),
    )
    if given["record"]:
        Path(given["record"]).write_text(json.dumps([asdict(one) for one in verdicts]), encoding="utf-8")
    skipped = [asdict(one) for one in verdicts if one.state == "skipped"]
    blocks = [one for one in verdicts if one.blocks]
    if blocks and not module.check_mode:
        module.fail_json(msg=summary(verdicts), skipped_checks=skipped)
    module.exit_json(changed=False, msg=summary(verdicts), skipped_checks=skipped)


if __name__ == "__main__":
    main()
