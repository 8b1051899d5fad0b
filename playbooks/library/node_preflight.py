"""Everything that preflight wants to know about a node, read in one pass."""

from __future__ import annotations

import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.preflight_firmware import readers as firmware
from ansible.module_utils.preflight_gpu import readers as gpu
from ansible.module_utils.preflight_network import readers as network
from ansible.module_utils.preflight_read import gather
from ansible.module_utils.preflight_safety import readers as safety
from ansible.module_utils.preflight_storage import readers as storage
from ansible.module_utils.preflight_system import readers as system

DOCUMENTATION = r"""
module: node_preflight
short_description: Facts of a node for preflight
description:
  - Reads and changes nothing. A fact that cannot be read carries the reason.
options:
  depot_address:
    description: Address of the depot.
    type: str
    required: true
  depot_port:
    description: Port of the depot.
    type: int
    required: true
  asked_at:
    description: What the clock of the controller said when it asked, in seconds.
    type: float
    required: true
author: Redoubt
"""


def main() -> None:
    """Read every topic."""
    module = AnsibleModule(
        argument_spec={
            "depot_address": {"type": "str", "required": True},
            "depot_port": {"type": "int", "required": True},
            "asked_at": {"type": "float", "required": True},
        },
        supports_check_mode=True,
    )
    started = time.monotonic()
    depot = (module.params["depot_address"], module.params["depot_port"])
    facts = gather({**system(), **firmware(), **gpu(), **network(), **storage(), **safety(depot)})
    seconds = round(time.monotonic() - started, 3)
    module.exit_json(changed=False, facts=facts, asked_at=module.params["asked_at"], seconds=seconds)


if __name__ == "__main__":
    main()
