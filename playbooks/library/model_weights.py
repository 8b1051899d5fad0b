"""Pull model weights from the depot; what stands under its digest has been checked against it."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: model_weights
short_description: Model weights, named by their digest
description:
  - Downloads each missing file beside its place, checks size and SHA-256 on the way, and only then gives it its name.
  - A file that has its name is complete, so a second run does not read hundreds of gigabytes again.
options:
  folder:
    description: Folder that holds one folder per digest.
    type: path
    required: true
  url:
    description: Address of the depot's folder of models.
    type: str
    required: true
  ca:
    description: Certificate of the site CA.
    type: path
    required: true
  files:
    description: The weights.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the model, for messages.
        type: str
        required: true
      folder:
        description: Digest of the model, which names the folder of its files.
        type: str
        required: true
      file:
        description: File name.
        type: str
        required: true
      sha256:
        description: SHA-256 in lower-case hex.
        type: str
        required: true
      size_bytes:
        description: Size of the file.
        type: int
        required: true
author: Redoubt
"""

CHUNK_BYTES = 4 << 20
TIMEOUT_S = 60


class Refused(Exception):
    """These weights cannot be had; says why and what to do."""


def place_of(folder: Path, wanted: dict[str, Any]) -> Path:
    """Return where a file belongs."""
    return folder / str(wanted["folder"]) / str(wanted["file"])


def is_complete(path: Path, wanted: dict[str, Any]) -> bool:
    """Tell whether the file is there; only checked files ever get this name."""
    return path.is_file() and path.stat().st_size == wanted["size_bytes"]


def check_space(folder: Path, missing: list[dict[str, Any]]) -> None:
    """Refuse before the first byte when not everything would fit."""
    asked = sum(int(wanted["size_bytes"]) for wanted in missing)
    free = shutil.disk_usage(folder).free
    if asked > free:
        message = f"{folder} has {free} bytes free and the missing models need {asked}; free space or name fewer models"
        raise Refused(message)


def pull(opener: urllib.request.OpenerDirector, source: str, path: Path, wanted: dict[str, Any]) -> None:
    """Download one file and give it its name when its digest is right."""
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o755)
    fresh = path.with_name(f".{path.name}.new")
    digest = hashlib.sha256()
    try:
        with opener.open(source, timeout=TIMEOUT_S) as answer, fresh.open("wb") as out:
            while piece := answer.read(CHUNK_BYTES):
                digest.update(piece)
                out.write(piece)
            os.fsync(out.fileno())
        if digest.hexdigest() != wanted["sha256"]:
            message = f"{source} has digest {digest.hexdigest()} instead of {wanted['sha256']}; import the bundle again"
            raise Refused(message)
        fresh.chmod(0o444)
        fresh.rename(path)
    except (urllib.error.URLError, OSError) as error:
        message = (
            f"{source} cannot be fetched: {error}; see that the depot answers: systemctl status nginx, on its node"
        )
        raise Refused(message) from error
    finally:
        fresh.unlink(missing_ok=True)
        with suppress(OSError):  # only an empty folder goes
            path.parent.rmdir()


def https_only(ca: str) -> urllib.request.OpenerDirector:
    """Open nothing but https, and only what the site CA vouches for; no proxy, no file."""
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.HTTPSHandler(context=context))
    opener.add_handler(urllib.request.HTTPErrorProcessor())
    opener.add_handler(urllib.request.HTTPDefaultErrorHandler())
    return opener


def converge(folder: Path, url: str, ca: str, missing: list[dict[str, Any]]) -> None:
    """Pull everything that is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    check_space(folder, missing)
    opener = https_only(ca)
    for wanted in missing:
        pull(opener, f"{url}/{wanted['folder']}/{wanted['file']}", place_of(folder, wanted), wanted)


def main() -> None:
    """Pull what is missing and say which files that were."""
    file = {
        "name": {"type": "str", "required": True},
        "folder": {"type": "str", "required": True},
        "file": {"type": "str", "required": True},
        "sha256": {"type": "str", "required": True},
        "size_bytes": {"type": "int", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "url": {"type": "str", "required": True},
            "ca": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "dict", "required": True, "options": file},
        },
        supports_check_mode=True,
    )
    folder = Path(module.params["folder"])
    missing = [wanted for wanted in module.params["files"] if not is_complete(place_of(folder, wanted), wanted)]
    if missing and not module.check_mode:
        try:
            converge(folder, module.params["url"], module.params["ca"], missing)
        except Refused as refused:
            module.fail_json(msg=str(refused))
    module.exit_json(changed=bool(missing), pulled=[wanted["name"] for wanted in missing])


if __name__ == "__main__":
    main()
