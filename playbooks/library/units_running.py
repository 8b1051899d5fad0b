"""Enable and start units in the order given, in one call per host."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: units_running
short_description: Enable and start systemd units, in order
description:
  - Reloads systemd when a unit file changed on disk, then enables and starts each unit.
  - Answers in check mode on a bare node too, where the unit files do not exist yet.
  - Says as C(restarts) which running units are, or would be, restarted.
options:
  names:
    description: Full names of the units.
    type: list
    elements: str
    required: true
  outdated_by:
    description:
      - Files and folders that other roles replace, such as certificates and code.
      - A unit that started before one of them changed is restarted.
    type: list
    elements: path
    default: []
author: Redoubt
"""

PROPERTIES = ["LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "ActiveEnterTimestamp"]
ENABLED = {"enabled", "static", "indirect", "generated"}
TIMESTAMP = "%a %Y-%m-%d %H:%M:%S.%f %Z"


def read_state(module: AnsibleModule, unit: str) -> dict[str, str]:
    """Read what systemd knows about a unit."""
    asked = [f"--property={name}" for name in PROPERTIES]
    _, out, _ = module.run_command(["systemctl", "show", "--timestamp=us+utc", *asked, unit], check_rc=True)
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def wanted_verbs(state: dict[str, str], changed_at: float) -> list[str]:
    """Decide what a unit needs."""
    verbs = [] if state["UnitFileState"] in ENABLED else ["enable"]
    if state["ActiveState"] != "active":
        return [*verbs, "start"]
    since = datetime.strptime(state["ActiveEnterTimestamp"], TIMESTAMP).replace(tzinfo=UTC)
    return [*verbs, "restart"] if since.timestamp() < changed_at else verbs


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
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "outdated_by": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    names: list[str] = module.params["names"]
    outdated_by = [Path(path) for path in module.params["outdated_by"]]
    changed_at = max((path.stat().st_mtime for path in outdated_by if path.exists()), default=0.0)
    states = {unit: read_state(module, unit) for unit in names}
    verbs = {unit: wanted_verbs(states[unit], changed_at) for unit in names}
    if not module.check_mode:
        if any(state["NeedDaemonReload"] == "yes" or state["LoadState"] == "not-found" for state in states.values()):
            module.run_command(["systemctl", "daemon-reload"], check_rc=True)
        for unit in names:
            for verb in verbs[unit]:
                act(module, verb, unit)
    started = [unit for unit in names if {"start", "restart"} & set(verbs[unit])]
    restarts = [unit for unit in names if "restart" in verbs[unit]]
    module.exit_json(changed=any(verbs.values()), started=started, restarts=restarts)


if __name__ == "__main__":
    main()
