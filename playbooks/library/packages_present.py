"""Debian packages, present: dpkg is asked first, because opening apt's cache takes longer than the answer."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: packages_present
short_description: Packages from the node's one source, without what they only recommend
description:
  - Installs what dpkg does not have; starts no service that a package brings, since no role has configured it yet.
  - Check mode answers on a bare node too, where there is no source to ask.
options:
  names:
    description: Packages.
    type: list
    elements: str
    required: true
author: Redoubt
"""

# What a GPU's work stands on: a kernel, a driver, or the daemon that holds its jobs.
UNDER_WORK = ("linux-image", "linux-modules", "nvidia-", "libnvidia-", "cuda-drivers", "slurmd")
POLICY = Path("/usr/sbin/policy-rc.d")
INSTALLED = "install ok installed"


def missing(module: AnsibleModule, names: list[str]) -> list[str]:
    """Return the packages that dpkg does not have."""
    _, out, _ = module.run_command(["dpkg-query", "--show", "--showformat", "${Package} ${Status}\n", *names])
    present = {line.split(" ", 1)[0] for line in out.splitlines() if line.endswith(INSTALLED)}
    return [name for name in names if name not in present]


def install(module: AnsibleModule, names: list[str]) -> None:
    """Install the packages while no service may start."""
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        POLICY.chmod(0o755)
    try:
        command = ["apt-get", "-qq", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=60", "install"]
        code, out, err = module.run_command([*command, *names], environ_update={"DEBIAN_FRONTEND": "noninteractive"})
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
    if code:
        said = " / ".join((err or out).strip().splitlines()[-3:])
        module.fail_json(
            msg=f"apt-get does not install {', '.join(names)}: {said}. Does the depot answer? apt-get update"
        )


def main() -> None:
    """Install what is missing."""
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    os.umask(0o022)
    names = missing(module, module.params["names"])
    if names and not module.check_mode:
        install(module, names)
    diff = {"before": "", "after": "".join(f"{name}\n" for name in names)}
    under = [name for name in names if name.startswith(UNDER_WORK)]
    drains = f"{', '.join(under)} is installed" if under else ""
    module.exit_json(changed=bool(names), missing=names, diff=diff, drains=drains)


if __name__ == "__main__":
    main()
