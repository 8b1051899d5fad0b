"""Enable and start units in the order given, in one call per host."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: units_running
short_description: Enable and start systemd units, in order
description:
  - Reloads systemd when a unit file changed on disk, then enables and starts each unit.
  - Answers in check mode on a bare node too, where the unit files do not exist yet.
options:
  names:
    description: Full names of the units.
    type: list
    elements: str
    required: true
author: Redoubt
"""

PROPERTIES = ["Id", "LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload"]
ENABLED = {"enabled", "static", "indirect", "generated"}


def read_state(module: AnsibleModule, unit: str) -> dict[str, str]:
    """Read what systemd knows about a unit."""
    asked = [f"--property={name}" for name in PROPERTIES]
    _, out, _ = module.run_command(["systemctl", "show", *asked, unit], check_rc=True)
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def act(module: AnsibleModule, verb: str, unit: str) -> None:
    """Run one systemctl verb; on failure show the end of the unit's journal."""
    code, _, err = module.run_command(["systemctl", verb, unit])
    if code == 0:
        return
    _, journal, _ = module.run_command(["journalctl", "--no-pager", "--lines=15", "--output=cat", "--unit", unit])
    module.fail_json(
        msg=f"{unit} does not {verb}: {err.strip()}. The end of its journal: {journal.strip()}. "
        f"See everything with: journalctl --unit {unit}"
    )


def main() -> None:
    """Bring every unit up and report which ones were not."""
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    names: list[str] = module.params["names"]
    states = [read_state(module, unit) for unit in names]
    enabled = [unit for unit, state in zip(names, states, strict=True) if state["UnitFileState"] not in ENABLED]
    started = [unit for unit, state in zip(names, states, strict=True) if state["ActiveState"] != "active"]
    if not module.check_mode:
        if any("yes" in state["NeedDaemonReload"] or state["LoadState"] == "not-found" for state in states):
            module.run_command(["systemctl", "daemon-reload"], check_rc=True)
        for unit in names:
            if unit in enabled:
                act(module, "enable", unit)
            if unit in started:
                act(module, "start", unit)
    module.exit_json(changed=bool(enabled or started), enabled=enabled, started=started)


if __name__ == "__main__":
    main()
