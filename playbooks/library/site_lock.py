"""Keep a second apply away from a site, whichever machine it comes from."""

from __future__ import annotations

import json
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stage_stamps import FOLDER, LOCK

DOCUMENTATION = r"""
module: site_lock
short_description: One apply at a time
description:
  - The lock lies on the node that holds the site's authority. Every stage that ends there renews it.
  - A machine that repeats a run which was killed takes its own lock over; another has to wait until it is old.
options:
  state:
    description: Take the lock, or give it back.
    type: str
    choices: [taken, released]
    required: true
  run:
    description: Who runs what; C(id), C(by) and C(place), which is the same for all runs from one place.
    type: dict
    required: true
author: Redoubt
"""

OLD_S = 900


def main() -> None:
    """Take or release; bookkeeping is no change of the node."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["taken", "released"], "required": True},
            "run": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    run = module.params["run"]
    held = json.loads(LOCK.read_text(encoding="utf-8") or "{}") if LOCK.exists() else {}
    if module.check_mode:
        module.exit_json(changed=False)
    if module.params["state"] == "released":
        if held.get("id") == run["id"]:
            LOCK.unlink()
        module.exit_json(changed=False)
    age_s = time.time() - LOCK.stat().st_mtime if held else OLD_S
    if age_s < OLD_S and held.get("place") != run["place"]:
        module.fail_json(
            msg=f"{held.get('by')} applies this site from another place, and gave a sign of life {age_s:.0f} s ago. "
            f"Wait for that to end; a lock without a sign of life is void after {OLD_S // 60} minutes"
        )
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = LOCK.with_suffix(".new")
    fresh.write_text(json.dumps(run), encoding="utf-8")
    fresh.rename(LOCK)
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
