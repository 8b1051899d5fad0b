"""Make an Ed25519 key pair on the node once; hand out the public half."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: signing_key
short_description: An Ed25519 key pair, made once
description:
  - Creates the private key if it does not exist and derives the public key from it.
  - The private key never leaves the node.
options:
  path:
    description: The private key, PEM, readable by its owner alone.
    type: path
    required: true
  public_path:
    description: The public key, PEM, readable by all.
    type: path
    required: true
  owner:
    description: User that owns the private key.
    type: str
    required: true
author: Redoubt
"""


def openssl(module: AnsibleModule, *words: str) -> str:
    """Run openssl and return what it prints."""
    _, out, _ = module.run_command(["openssl", *words], check_rc=True)
    return str(out)


def put(path: Path, text: str, mode: int) -> None:
    """Write a file in one step, never readable by more than it should be."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as out:
        out.write(text)
        out.flush()
        os.fchmod(out.fileno(), mode)
        os.fsync(out.fileno())
    fresh.rename(path)


def main() -> None:
    """Create what is missing and answer with the public key."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "public_path": {"type": "path", "required": True},
            "owner": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    private, public = Path(module.params["path"]), Path(module.params["public_path"])
    changed = not private.exists()
    if changed and module.check_mode:
        module.exit_json(changed=True, public_key="")
    if changed:
        put(private, openssl(module, "genpkey", "-algorithm", "ed25519"), 0o400)
    changed = module.set_owner_if_different(str(private), module.params["owner"], changed)
    changed = module.set_mode_if_different(str(private), "0400", changed)
    text = openssl(module, "pkey", "-in", str(private), "-pubout")
    if not public.exists() or public.read_text() != text:
        changed = True
        if not module.check_mode:
            put(public, text, 0o644)
    module.exit_json(changed=changed, public_key=text)


if __name__ == "__main__":
    main()
