"""Install packages from a repository of plain files, for the node that will serve that repository."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: depot_server
short_description: Packages from the unpacked bundle, without any other source
description:
  - Reads the signed repository below a folder, with the given key, and nothing else.
options:
  repository:
    description: Folder of the repository.
    type: path
    required: true
  key:
    description: Armoured OpenPGP keys that may sign it.
    type: str
    required: true
  names:
    description: Packages.
    type: list
    elements: str
    required: true
  creates:
    description: A file that is there when the packages are.
    type: path
    required: true
author: Redoubt
"""

SUITE = "redoubt"


def install(module: AnsibleModule, repository: Path, armoured: str, names: list[str]) -> None:
    """Install from the repository with an apt configuration of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # apt drops to the user _apt for reading
        (folder / "lists/partial").mkdir(parents=True)
        key, source = folder / "key.asc", folder / "depot.list"
        key.write_text(armoured, encoding="utf-8")
        source.write_text(f"deb [signed-by={key}] copy:{repository} {SUITE} main\n", encoding="utf-8")
        options = [
            f"Dir::Etc::SourceList={source}",
            "Dir::Etc::SourceParts=/dev/null",
            f"Dir::State::Lists={folder}/lists",
        ]
        apt = ["apt-get", "-qq", "--yes", *(part for option in options for part in ("-o", option))]
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        module.run_command([*apt, "update"], check_rc=True, environ_update=quiet)
        module.run_command([*apt, "--no-install-recommends", "install", *names], check_rc=True, environ_update=quiet)


def main() -> None:
    """Install unless the packages are there."""
    module = AnsibleModule(
        argument_spec={
            "repository": {"type": "path", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "names": {"type": "list", "elements": "str", "required": True},
            "creates": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    if Path(module.params["creates"]).exists():
        module.exit_json(changed=False)
    if not module.check_mode:
        install(module, Path(module.params["repository"]), module.params["key"], module.params["names"])
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
