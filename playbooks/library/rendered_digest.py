"""Compare a rendered inventory with the record that was made with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: rendered_digest
short_description: Refuse an inventory that is stale or was edited
options:
  rendered:
    description: Folder of the rendered inventory.
    type: path
    required: true
  site:
    description: The site spec it was rendered from.
    type: path
    required: true
author: Redoubt
"""


def sha256(path: Path) -> str:
    """Return the digest of a file, or nothing if it is not there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def main() -> None:
    """Fail with the file that differs and the command that helps."""
    module = AnsibleModule(
        argument_spec={"rendered": {"type": "path", "required": True}, "site": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    rendered, site = Path(module.params["rendered"]), Path(module.params["site"])
    remedy = f"Render it anew: redoubt site render {site} --bundle FOLDER"
    record = rendered / "digest"
    if not record.is_file():
        module.fail_json(msg=f"{rendered} holds no rendered inventory. {remedy}")
    expected = json.loads(record.read_text(encoding="utf-8"))
    if sha256(site) != expected["site"]:
        module.fail_json(msg=f"The rendered inventory is stale: {site} changed after it was rendered. {remedy}")
    for path, digest in expected["rendered"].items():
        if sha256(rendered / path) != digest:
            module.fail_json(msg=f"The rendered inventory was edited by hand: {path}. Change {site} instead. {remedy}")
    present = {file.relative_to(rendered).as_posix() for file in rendered.rglob("*") if file.is_file()}
    for path in sorted(present - set(expected["rendered"]) - {"digest"}):
        module.fail_json(msg=f"{path} is in the rendered inventory and was not rendered. {remedy}")
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
