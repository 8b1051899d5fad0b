"""Take a bundle into the depot, with the program that the role put on the node."""

from __future__ import annotations

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: bundle_unpacked
short_description: A bundle unpacked below a folder, and made the current one
description:
  - Signatures must be enough under the trust root; every file must match the signed manifest.
  - The bundle before stays current until the new one is whole, and is kept beside it. Files that both have are linked.
options:
  archive:
    description: The tar of the bundle; its space is given back while it is unpacked, and it is removed after.
    type: path
    required: true
  digest:
    description: Digest of the bundle.
    type: str
    required: true
  folder:
    description: Where bundles lie, each below its digest, with a link C(current).
    type: path
    required: true
  root:
    description: File with the trust root that was known when the inventory was rendered.
    type: path
    required: true
  library:
    description: Folder of the program that takes bundles in.
    type: path
    required: true
  who:
    description: Who carries the bundle in, for the import log.
    type: str
    default: redoubt site apply
  reason:
    description: Why a bundle is taken that is expired or below the floor, for the import log.
    type: str
    default: ""
author: Redoubt
"""

OPTIONS = {
    "archive": {"type": "path", "required": True},
    "digest": {"type": "str", "required": True},
    "folder": {"type": "path", "required": True},
    "root": {"type": "path", "required": True},
    "library": {"type": "path", "required": True},
    "who": {"type": "str", "default": "redoubt site apply"},
    "reason": {"type": "str", "default": ""},
}


def take_in(module: AnsibleModule) -> dict[str, object]:
    """Run the program; its last words are the reason when it refuses."""
    asked = module.params
    words = {"source": asked["archive"], "depot": asked["folder"], "root": asked["root"], "digest": asked["digest"]}
    words |= {"who": asked["who"], "accept": asked["reason"]}
    options = [part for name, value in words.items() for part in (f"--{name}", value)]
    environment = {"PYTHONPATH": asked["library"], "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
    program = ["/usr/bin/env", "python3", "-m", "controlplane.bundle.depot_program", "take-in", *options]
    code, answer, said = module.run_command(program, environ_update=environment)
    if code:
        reason = " ".join(line.removeprefix("depot: ").strip() for line in said.splitlines())
        module.fail_json(msg=f"The bundle was not taken in; the depot serves the one before. {reason}")
    taken: dict[str, object] = json.loads(answer)
    return taken


def main() -> None:
    """Take the bundle in if it is not there, and make it current."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    link = Path(module.params["folder"]) / "current"
    if link.is_symlink() and link.readlink().name == module.params["digest"]:
        module.exit_json(changed=False)
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        taken = take_in(module)
    finally:
        Path(module.params["archive"]).unlink(missing_ok=True)
    module.exit_json(**taken)


if __name__ == "__main__":
    main()
