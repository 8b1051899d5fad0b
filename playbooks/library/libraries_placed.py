"""Put binary files on a node, in one call."""

from __future__ import annotations

import base64
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: libraries_placed
short_description: Small binary files with given content
options:
  files:
    description: The files; content is base64.
    type: list
    elements: dict
    required: true
author: Redoubt
"""


def place(path: Path, content: bytes) -> None:
    """Replace a file in one step: programs that have the old one mapped keep it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(0o644)
    fresh.rename(path)


def main() -> None:
    """Write what differs."""
    spec = {"path": {"type": "path", "required": True}, "content": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={"files": {"type": "list", "elements": "dict", "required": True, "options": spec}},
        supports_check_mode=True,
    )
    wanted = {Path(file["path"]): base64.b64decode(file["content"]) for file in module.params["files"]}
    differing = [path for path, content in wanted.items() if not path.exists() or path.read_bytes() != content]
    for path in differing if not module.check_mode else []:
        place(path, wanted[path])
    module.exit_json(changed=bool(differing), written=[str(path) for path in differing])


if __name__ == "__main__":
    main()
