"""Write several files in one call; create their folders; say exactly what differs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stage_stamps import is_unfinished

DOCUMENTATION = r"""
module: files_written
short_description: Files with given content, in one call per host
description:
  - Replaces each file whole when its content differs, and sets owner, group and mode.
  - Missing folders are made, so check mode works on a bare node.
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where the file belongs.
        type: path
        required: true
      content:
        description: What it holds.
        type: str
        required: true
      owner:
        description: User that owns the file.
        type: str
        default: root
      group:
        description: Group that owns the file.
        type: str
        default: root
      mode:
        description: Permissions of the file.
        type: str
        default: "0644"
  stage:
    description:
      - Stage that the files belong to. A file that it wrote before it was interrupted is reported as changed once more,
        because what the change had to notify may be lost.
    type: str
    default: ""
author: Redoubt
"""

FILE = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0644"},
}


def make_folders(folder: Path) -> None:
    """Create missing folders, readable by all whatever the umask says."""
    if not folder.exists():
        make_folders(folder.parent)
        folder.mkdir()
        folder.chmod(0o755)


def write(module: AnsibleModule, path: Path, content: str) -> None:
    """Put the new content in place in one step."""
    make_folders(path.parent)
    handle, fresh = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(content)
    module.atomic_move(fresh, str(path))


def settle(module: AnsibleModule, wanted: dict[str, Any]) -> dict[str, str] | None:
    """Bring one file to what is wanted; return its difference, or nothing."""
    path = Path(wanted["path"])
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    differs = not path.exists() or before != wanted["content"]
    if differs and not module.check_mode:
        write(module, path, wanted["content"])
    if path.exists():
        attributes = module.load_file_common_arguments({key: wanted[key] for key in ("path", "owner", "group", "mode")})
        differs = module.set_fs_attributes_if_different(attributes, differs)
        differs = differs or is_unfinished(module.params["stage"], path)
    after = wanted["content"]
    names = {"before_header": str(path), "after_header": str(path)}
    return {**names, "before": before, "after": after} if differs else None


def main() -> None:
    """Write what differs and report each difference."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": FILE},
            "stage": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    differences = [found for wanted in module.params["files"] if (found := settle(module, wanted))]
    written = [found["before_header"] for found in differences]
    module.exit_json(changed=bool(differences), diff=differences, written=written)


if __name__ == "__main__":
    main()
