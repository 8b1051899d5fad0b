"""Restart or reload those of some units that run, in one call per host; check mode says which they would be."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: units_restarted
short_description: Restart or reload running systemd units by name or pattern
description:
  - Units that do not run are left alone.
options:
  names:
    description: Names of units, or patterns of them.
    type: list
    elements: str
    required: true
  reload:
    description: Reload where the unit can, restart where it cannot.
    type: bool
    default: false
author: Redoubt
"""


def running(module: AnsibleModule, names: list[str]) -> list[str]:
    """Return the units that these names and patterns mean and that run."""
    listed = ["systemctl", "list-units", "--state=active", "--plain", "--no-legend", "--full", *names]
    _, out, _ = module.run_command(listed, check_rc=True)
    return [line.split()[0] for line in out.splitlines() if line.strip()]


def main() -> None:
    """Do it, or say what would be done."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "reload": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    units = running(module, module.params["names"])
    verb = "reload-or-restart" if module.params["reload"] else "restart"
    if units and not module.check_mode:
        module.run_command(["systemctl", verb, *units], check_rc=True)
    said = [f"{unit} (reload)" if module.params["reload"] else unit for unit in units]
    module.exit_json(changed=bool(units), restarts=said)


if __name__ == "__main__":
    main()
