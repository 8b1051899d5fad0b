"""Run one of our Ansible modules on this machine, as a playbook would on a node."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any  # what a module answers is free-form JSON

LIBRARY = Path("playbooks/library")


def run_module(name: str, arguments: Mapping[str, object]) -> dict[str, Any]:
    """Return what the module answers, whether it succeeded or failed."""
    ansible = str(Path(sys.executable).parent / "ansible")
    local = ["localhost", "--connection=local", f"--module-path={LIBRARY}", f"--module-name={name}"]
    python = ["--extra-vars", f"ansible_python_interpreter={sys.executable}", "--one-line"]
    command = ["env", "ANSIBLE_NOCOLOR=1", "LC_ALL=C.UTF-8", ansible, *local, *python, "--args", json.dumps(arguments)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return dict(json.loads(said[said.index("=>") + 2 :]))
