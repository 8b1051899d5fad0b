"""Load nftables rules that take themselves back unless somebody keeps them."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: boundary_rules
short_description: Rules of the boundary, with a timer against locking oneself out
description:
  - C(tried) checks the rules with C(nft --check), arms the timer C(redoubt-boundary-revert), then loads them.
  - It compares what the kernel has with what the file means, so rules that a hand changed are found and put right.
  - Tables of others are never touched. One that rewrites addresses is refused, all others are told.
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
LIST = ["--stateless", "list", "table", *TABLE]
SPARE_NETWORK = f'nft --file "$1" && exec nft {" ".join(LIST)}'


def loaded(module: AnsibleModule, nft: str) -> str:
    """Return the rules that the kernel has, without what they counted; nothing when the table is not there."""
    code, out, _ = module.run_command([nft, *LIST])
    return str(out) if code == 0 else ""


def meant(module: AnsibleModule, fresh: str) -> str:
    """Return what the kernel would have after loading the file: it is loaded where no packet is, in a spare network."""
    code, out, err = module.run_command(["unshare", "--net", "sh", "-c", SPARE_NETWORK, "sh", fresh])
    if code:
        module.fail_json(msg=f"nft refuses the rules, nothing was loaded: {err.strip()}")
    return str(out)


def written(module: AnsibleModule) -> str:
    """Write the rules aside and return where they are."""
    handle, fresh = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(module.params["content"])
    return fresh


def tell_of_others(module: AnsibleModule, nft: str) -> list[str]:
    """List tables of others that see packets; refuse one that rewrites addresses."""
    _, out, _ = module.run_command([nft, "--json", "list", "chains"], check_rc=True)
    chains = [entry["chain"] for entry in json.loads(out)["nftables"] if "hook" in entry.get("chain", {})]
    others = [chain for chain in chains if [chain["family"], chain["table"]] != TABLE]
    for chain in others:
        name = f"{chain['family']} {chain['table']}"
        if chain["type"] == "nat":
            module.fail_json(msg=f"Table {name} rewrites addresses; Redoubt did not make it and leaves it alone. "
                                 f"See it: nft list table {name}. Remove it: nft delete table {name}")  # fmt: skip
        module.warn(f"table {name} has rules that Redoubt did not make; see them: nft list table {name}")
    return sorted({f"{chain['family']} {chain['table']}" for chain in others})


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


def difference(before: str, inside: str, meaning: str, content: str) -> dict[str, str] | None:
    """Say what differs: the file, or else what a hand made of it in the kernel."""
    if before != content:
        return {"before_header": str(ACTIVE), "after_header": str(ACTIVE), "before": before, "after": content}
    if inside != meaning:
        return {"before_header": "rules in the kernel", "after_header": str(ACTIVE), "before": inside, "after": meaning}
    return None


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
    others = tell_of_others(module, nft)
    before = ACTIVE.read_text(encoding="utf-8") if ACTIVE.exists() else ""
    fresh = written(module)
    diff = difference(before, loaded(module, nft), meant(module, fresh), module.params["content"])
    if diff and not module.check_mode:
        load(module, nft, fresh)
    module.exit_json(changed=bool(diff), diff=diff or {}, other_tables=others)


if __name__ == "__main__":
    main()
