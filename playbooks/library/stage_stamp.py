"""Say on the node that a stage begins, or that all of it is done."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stage_stamps import begin, forget, seal

DOCUMENTATION = r"""
module: stage_stamp
short_description: Stamps by which the next run skips what is unchanged
description:
  - C(begun) marks stages as unfinished, so that files written since are reported as changed until the stage is done.
  - C(done) keeps the digest of the stage's inputs with what it left on the node.
options:
  state:
    description: What to say.
    type: str
    choices: [begun, done]
    required: true
  stages:
    description: The stages.
    type: list
    elements: str
    required: true
  inputs:
    description: Digest of everything that decides what the stage does; without one there is no stamp.
    type: str
    default: ""
  made:
    description: Files, units and questions whose state must stay as the stage leaves it.
    type: dict
    default: {}
author: Redoubt
"""


def main() -> None:
    """Write marks or a stamp; bookkeeping is no change of the node."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["begun", "done"], "required": True},
            "stages": {"type": "list", "elements": "str", "required": True},
            "inputs": {"type": "str", "default": ""},
            "made": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False)
    if module.params["state"] == "begun":
        begin(module.params["stages"])
    for stage in module.params["stages"] if module.params["state"] == "done" else []:
        if module.params["inputs"]:
            seal(stage, module.params["inputs"], module.params["made"])
        else:
            forget(stage)
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
