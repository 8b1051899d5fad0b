"""Make a random secret on the node once; hand it out for nodes that share it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: random_key
short_description: A file with a random secret, made once
description:
  - Creates the file with a fresh secret in printable characters if it does not exist, and sets owner and mode.
  - Returns the content, so use it with no_log.
options:
  path:
    description: Where the secret lives.
    type: path
    required: true
  size_bytes:
    description: How many random bytes a new secret has.
    type: int
    default: 64
  owner:
    description: User that owns the file.
    type: str
  group:
    description: Group that owns the file.
    type: str
  mode:
    description: Permissions of the file.
    type: raw
author: Redoubt
"""


def create(path: Path, size_bytes: int) -> None:
    """Write the secret so that no reader ever sees half of it, or sees it at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(secrets.token_urlsafe(size_bytes))
        out.flush()
        os.fsync(out.fileno())
    fresh.rename(path)


def main() -> None:
    """Create what is missing and answer with the content."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "size_bytes": {"type": "int", "default": 64},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    missing = not path.exists()
    if missing and module.check_mode:
        module.exit_json(changed=True, content="")
    if missing:
        create(path, module.params["size_bytes"])
    changed = module.set_fs_attributes_if_different(module.load_file_common_arguments(module.params), missing)
    module.exit_json(changed=changed, content=path.read_text())


if __name__ == "__main__":
    main()
