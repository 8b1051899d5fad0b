"""Make a random secret on the node once; hand it out for nodes that share it."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: random_key
short_description: A file with a random secret, made once
description:
  - Creates the file with a fresh secret in printable characters if it does not exist, and sets owner and mode.
  - Returns the content unless told otherwise, so use it with no_log.
  - Where the secret has sealed something, it makes no other one and says what to do.
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
  check_value:
    description:
      - File that a service keeps beside what it has sealed with the secret, with the SHA-256 of C(check value of ) and
        the secret. While it is there no other secret is made or accepted.
    type: path
  tell:
    description: Whether the content is returned; without it the task needs no no_log, and says what is wrong.
    type: bool
    default: true
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


def trouble(path: Path, check_value: Path | None) -> str:
    """Say what is wrong where something was sealed and this is not the secret that did it; "" where all is well."""
    if check_value is None or not check_value.exists():
        return ""
    kept, remedy = check_value.parent, f"put it back from a backup, or give up what is kept: rm -r {check_value.parent}"
    if not path.exists():
        return f"{path} is gone, but what it sealed is still in {kept}; {remedy}; then apply again"
    found = hashlib.sha256(b"check value of " + path.read_bytes().strip()).hexdigest()
    if found != check_value.read_text().strip():
        return f"{path} is not the secret that sealed what is in {kept}; {remedy}; then apply again"
    return ""


def main() -> None:
    """Create what is missing and answer with the content."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "size_bytes": {"type": "int", "default": 64},
            "check_value": {"type": "path"},
            "tell": {"type": "bool", "default": True},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    check_value = module.params["check_value"]
    wrong = trouble(path, check_value and Path(check_value))
    if wrong:
        module.fail_json(msg=wrong)
    missing = not path.exists()
    if missing and module.check_mode:
        module.exit_json(changed=True, content="")
    if missing:
        create(path, module.params["size_bytes"])
    changed = module.set_fs_attributes_if_different(module.load_file_common_arguments(module.params), missing)
    module.exit_json(changed=changed, content=path.read_text() if module.params["tell"] else "")


if __name__ == "__main__":
    main()
