"""The Python of the product: a virtual environment made of the depot's wheels, every one checked by hash."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import tempfile
import urllib.request
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stage_stamps import is_unfinished

DOCUMENTATION = r"""
module: depot_python
short_description: A virtual environment from the depot
description:
  - Asks the depot only when the bundle or the features changed; installs only when the requirements changed.
  - The requirements, and with them the hash of every wheel, must be those of the signed bundle.
options:
  path:
    description: Where the environment lies.
    type: path
    required: true
  depot_url:
    description: Address of the depot.
    type: str
    required: true
  authority:
    description: Certificate of the site's authority.
    type: path
    required: true
  bundle:
    description: Digest of the bundle, which is the SHA-256 of its manifest.
    type: str
    required: true
  features:
    description: Extras of the product.
    type: list
    elements: str
    required: true
  pip_wheels:
    description: Folder where the distribution keeps pip as a wheel.
    type: path
    required: true
  stage:
    description: Stage that makes it; one that never came to its end reports a change once more.
    type: str
    default: ""
author: Redoubt
"""

PROJECT = "redoubt"
MANIFEST = "bundle.json"


def requirements(module: AnsibleModule) -> str:
    """Fetch the signed requirements of every feature; a pin that several name stays once."""
    expected = signed_files(module)
    pins: dict[str, str] = {}
    for feature in sorted(module.params["features"]):
        path = f"requirements/{feature}.txt"
        text = fetched(module, path, expected.get(path, "nothing")).decode()
        for pin in text.replace("\\\n", " ").splitlines():
            pins[pin.split()[0]] = " ".join(pin.split())
    return "".join(f"{pin}\n" for pin in sorted(pins.values()))


def signed_files(module: AnsibleModule) -> dict[str, str]:
    """Return the digests of the bundle's files by path; the digest of the manifest comes from the inventory."""
    manifest = json.loads(fetched(module, MANIFEST, module.params["bundle"]))
    return {file["path"]: file["sha256"] for file in manifest["files"]}


def fetched(module: AnsibleModule, path: str, sha256: str) -> bytes:
    """Fetch one file of the depot and check its digest."""
    url = f"{module.params['depot_url']}/{path}"
    context = ssl.create_default_context(cafile=module.params["authority"])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=20) as answer:
            content: bytes = answer.read()
    except OSError as error:
        module.fail_json(msg=f"The depot does not answer for {url}: {error}. Look at nginx.service on the depot.")
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        module.fail_json(
            msg=f"{url} is not the file of the signed bundle: its SHA-256 is {found}, expected is {sha256}. "
            "Nothing was installed. Remove this bundle and the link current on the depot, then: redoubt site apply"
        )
    return content


def install(module: AnsibleModule, wanted: str, path: Path) -> None:
    """Bring the environment to the requirements."""
    if not (path / "bin/python").exists():
        module.run_command(["python3", "-m", "venv", "--without-pip", str(path)], check_rc=True)
    pip_wheel = next(Path(module.params["pip_wheels"]).glob("pip-*.whl"))
    pip = [str(path / "bin/python"), f"{pip_wheel}/pip", "--isolated", "--quiet", "--disable-pip-version-check"]
    # The product's own version says little about its content, so it is always installed anew.
    module.run_command([*pip, "uninstall", "--yes", PROJECT], check_rc=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write(wanted)
        pins.flush()
        depot = ["--index-url", f"{module.params['depot_url']}/wheels/simple/", "--cert", module.params["authority"]]
        only = ["--no-cache-dir", "--require-hashes", "--only-binary=:all:", "--no-deps"]
        module.run_command([*pip, "install", *depot, *only, "--requirement", pins.name], check_rc=True)


def main() -> None:
    """Install what changed."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "depot_url": {"type": "str", "required": True},
            "authority": {"type": "path", "required": True},
            "bundle": {"type": "str", "required": True},
            "features": {"type": "list", "elements": "str", "required": True},
            "pip_wheels": {"type": "path", "required": True},
            "stage": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    stamp = path / ".redoubt.json"
    asked = {"bundle": module.params["bundle"], "features": sorted(module.params["features"])}
    known = json.loads(stamp.read_text(encoding="utf-8")) if stamp.exists() else {}
    if {key: known.get(key) for key in asked} == asked:
        module.exit_json(changed=is_unfinished(module.params["stage"], stamp))
    drains = "the Python that runs replicas is replaced" if known else ""
    if module.check_mode:
        module.exit_json(changed=True, drains=drains)
    wanted = requirements(module)
    digest = hashlib.sha256(wanted.encode()).hexdigest()
    changed = digest != known.get("requirements")
    if changed:
        stamp.unlink(missing_ok=True)
        install(module, wanted, path)
    fresh = stamp.with_suffix(".new")
    fresh.write_text(json.dumps({**asked, "requirements": digest}), encoding="utf-8")
    shutil.move(fresh, stamp)
    module.exit_json(changed=changed, drains=drains)


if __name__ == "__main__":
    main()
