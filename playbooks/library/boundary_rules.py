"""Load nftables rules that take themselves back unless somebody keeps them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: boundary_rules
short_description: Rules of the boundary, with a timer against locking oneself out
description:
  - C(tried) checks the rules with C(nft --check), arms the timer C(redoubt-boundary-revert), then loads them.
  - C(kept) stops the timer and makes them the rules of every boot. Until then a power cut brings the old ones back too.
options:
  state:
    description: What to do.
    type: str
    choices: [tried, kept]
    required: true
  content:
    description: The whole file, which replaces its own table in one transaction.
    type: str
    default: ""
  revert_after_s:
    description: Seconds until the rules before come back.
    type: int
    default: 60
author: Redoubt
"""

FOLDER = Path("/etc/redoubt/boundary")
ACTIVE = FOLDER / "active.nft"
PENDING = FOLDER / "pending.nft"
OPEN = FOLDER / "open.nft"
TABLE = ["inet", "redoubt_boundary"]
NOTHING = "table inet redoubt_boundary\ndelete table inet redoubt_boundary\n"
REVERT = "redoubt-boundary-revert"


def is_loaded(module: AnsibleModule, nft: str) -> bool:
    """Tell whether the kernel has the table."""
    code, _, _ = module.run_command([nft, "list", "table", *TABLE])
    return code == 0


def checked(module: AnsibleModule, nft: str) -> str:
    """Write the rules aside and have nft read them; return where they are."""
    handle, fresh = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(module.params["content"])
    code, _, err = module.run_command([nft, "--check", "--file", fresh])
    if code:
        module.fail_json(msg=f"nft refuses the rules, nothing was loaded: {err.strip()}")
    return fresh


def arm(module: AnsibleModule, nft: str) -> None:
    """Start the timer that brings the rules before back."""
    if not ACTIVE.exists():
        OPEN.write_text(NOTHING, encoding="utf-8")
    back = [nft, "--file", str(ACTIVE if ACTIVE.exists() else OPEN)]
    after = [f"--on-active={module.params['revert_after_s']}", "--timer-property=AccuracySec=1s"]
    module.run_command(["systemctl", "stop", f"{REVERT}.timer"])
    module.run_command(["systemd-run", "--quiet", f"--unit={REVERT}", *after, *back], check_rc=True)


def load(module: AnsibleModule, nft: str, fresh: str) -> None:
    """Give the new rules to the kernel, with the way back prepared."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    FOLDER.parent.chmod(0o755)
    FOLDER.chmod(0o755)
    arm(module, nft)
    module.atomic_move(fresh, str(PENDING))
    PENDING.chmod(0o644)
    module.run_command([nft, "--file", str(PENDING)], check_rc=True)


def keep(module: AnsibleModule) -> None:
    """Make the tried rules those of every boot."""
    if PENDING.exists() and not module.check_mode:
        code, _, _ = module.run_command(["systemctl", "is-active", "--quiet", f"{REVERT}.timer"])
        if code:
            module.fail_json(msg="The rules before came back while the new ones were being proved. Repeat the command.")
        module.run_command(["systemctl", "stop", f"{REVERT}.timer"], check_rc=True)
        PENDING.rename(ACTIVE)
        OPEN.unlink(missing_ok=True)
    module.exit_json(changed=False)


def main() -> None:
    """Try the rules if the file or the kernel differs, or keep those that were tried."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["tried", "kept"], "required": True},
            "content": {"type": "str", "default": ""},
            "revert_after_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    if module.params["state"] == "kept":
        keep(module)
    nft = module.get_bin_path("nft", required=True)
    before = ACTIVE.read_text(encoding="utf-8") if ACTIVE.exists() else ""
    if before == module.params["content"] and is_loaded(module, nft):
        module.exit_json(changed=False)
    fresh = checked(module, nft)
    if not module.check_mode:
        load(module, nft, fresh)
    diff = {"before_header": str(ACTIVE), "after_header": str(ACTIVE)}
    module.exit_json(changed=True, diff={**diff, "before": before, "after": module.params["content"]})


if __name__ == "__main__":
    main()
