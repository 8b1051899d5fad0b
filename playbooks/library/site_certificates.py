"""A node's keys and certificates: requested from the site's authority, then put in place."""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: site_certificates
short_description: Keys made on the node, certificates from the authority
description:
  - C(requested) returns a request for each certificate that is missing, wrong, or near its end. The new key waits
    beside the old one.
  - C(installed) puts new keys and certificates in place together.
options:
  state:
    description: Which half of the work to do.
    type: str
    choices: [requested, installed]
    required: true
  authority:
    description: Certificate of the site's root; empty when it is still to be made.
    type: str
    required: true
  issuing:
    description: Certificate of the site's issuing authority; empty when it is still to be made.
    type: str
    required: true
  certificates:
    description: Certificates this node has.
    type: list
    elements: dict
    required: true
  signed:
    description: What the authority signed.
    type: list
    elements: dict
    default: []
  renew_before_days:
    description: How long before its end a certificate is replaced.
    type: int
    default: 30
author: Redoubt
"""

FOLDER = Path("/etc/redoubt/tls")
AUTHORITY, ISSUING = FOLDER / "ca.crt", FOLDER / "issuing.crt"
CURRENT = "current"  # in the folder of a pair that its holder renews: a link to the newest generation
DAY_S = 86400
LINKS = (("crt", "leaf.crt"), ("key", "leaf.key"))


def is_right(module: AnsibleModule, wanted: dict[str, Any]) -> bool:
    """Tell whether key and certificate are there, belong together, carry the names, and last long enough."""
    key, certificate = FOLDER / f"{wanted['name']}.key", FOLDER / f"{wanted['name']}.crt"
    if not (key.exists() and certificate.exists() and key.owner() == wanted["owner"]):
        return False
    if wanted["renewed"] != certificate.is_symlink():
        return False
    lasts = ["-checkend", str(lasts_s(module, wanted, certificate))]
    shown = ["-noout", "-pubkey", "-subject", "-nameopt", "RFC2253", "-ext", "subjectAltName"]
    code, text, _ = module.run_command(["openssl", "x509", "-in", str(certificate), *lasts, *shown])
    if code or public_key(module, key) not in text or f"CN={wanted['common_name']}," not in text:
        return False
    if not is_trusted(module, certificate):
        return False
    return all(name in names_in(text) for name in names_of(wanted)) and len(names_in(text)) == len(names_of(wanted))


def is_trusted(module: AnsibleModule, certificate: Path) -> bool:
    """Tell whether the site's root, as it is now, stands behind a certificate."""
    with tempfile.NamedTemporaryFile("w") as root:
        root.write(module.params["authority"])
        root.flush()
        words = ["-CAfile", root.name, "-untrusted", str(certificate), "-no_check_time", str(certificate)]
        code, _, _ = module.run_command(["openssl", "verify", *words])
    return code == 0


def lasts_s(module: AnsibleModule, wanted: dict[str, Any], certificate: Path) -> int:
    """Return how long a certificate must still last. What its holder renews is ours only when that failed."""
    if not wanted["renewed"]:
        return int(module.params["renew_before_days"]) * DAY_S
    shown = ["openssl", "x509", "-in", str(certificate), "-noout", "-startdate", "-enddate", "-dateopt", "iso_8601"]
    _, text, _ = module.run_command(shown, check_rc=True)
    start, end = (datetime.fromisoformat(line.split("=", 1)[1].strip()) for line in text.splitlines()[:2])
    return int((end - start).total_seconds() // 4)


def names_of(wanted: dict[str, Any]) -> list[str]:
    """Return the names a certificate must carry, in the words of openssl."""
    dns = [f"DNS:{name}" for name in wanted["dns"]]
    return [*dns, *(f"IP Address:{address}" for address in wanted["ip"]), f"URI:{wanted['uri']}"]


def names_in(text: str) -> list[str]:
    """Return the names that openssl shows."""
    line = next((line for line in text.splitlines() if "URI:" in line), "")
    return [name.strip() for name in line.split(",")]


def public_key(module: AnsibleModule, key: Path) -> str:
    """Return the public half of a key."""
    _, text, _ = module.run_command(["openssl", "pkey", "-in", str(key), "-pubout"], check_rc=True)
    return text.strip()


def request(module: AnsibleModule, wanted: dict[str, Any]) -> dict[str, str]:
    """Make a new key beside the present one and return a request for it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    FOLDER.parent.chmod(0o755)
    FOLDER.chmod(0o755)
    fresh = FOLDER / f".{wanted['name']}.key.new"
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", str(fresh)]
    asked = ["openssl", "req", "-new", *curve, "-subj", f"/CN={wanted['common_name']}"]
    _, text, _ = module.run_command(asked, check_rc=True)
    return {"name": wanted["name"], "request": text[text.index("-----BEGIN CERTIFICATE REQUEST") :]}


def install(wanted: dict[str, Any], certificate: str) -> None:
    """Put a new key and its certificate in place."""
    fresh = FOLDER / f".{wanted['name']}.key.new"
    shutil.chown(fresh, wanted["owner"], wanted["owner"])
    fresh.chmod(0o400)
    if wanted["renewed"]:
        lay(wanted, fresh, certificate)
        return
    fresh.rename(FOLDER / f"{wanted['name']}.key")
    write(FOLDER / f"{wanted['name']}.crt", certificate)


def lay(wanted: dict[str, Any], key: Path, certificate: str) -> None:
    """Lay a pair down where its holder can replace it, with links from where every pair is looked for."""
    folder = FOLDER / wanted["name"]
    folder.mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="play-", dir=folder))
    key.rename(place / "leaf.key")
    (place / "leaf.crt").write_text(certificate, encoding="utf-8")
    (place / "leaf.crt").chmod(0o644)
    for path in (folder, place):
        path.chmod(0o755)
    for path in (folder, place, place / "leaf.crt"):
        shutil.chown(path, wanted["owner"], wanted["owner"])
    link(folder / CURRENT, place.name)
    for ending, file in LINKS:
        link(FOLDER / f"{wanted['name']}.{ending}", f"{wanted['name']}/{CURRENT}/{file}")


def link(path: Path, target: str) -> None:
    """Make a link in one step, whatever stood there."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(path)


def write(path: Path, content: str) -> None:
    """Replace a public file in one step."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(content, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.rename(path)


def main() -> None:
    """Do one half of the work."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["requested", "installed"], "required": True},
            "authority": {"type": "str", "required": True},
            "issuing": {"type": "str", "required": True},
            "certificates": {"type": "list", "elements": "dict", "required": True},
            "signed": {"type": "list", "elements": "dict", "default": []},
            "renew_before_days": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    authority, certificates = module.params["authority"], module.params["certificates"]
    issuing = module.params["issuing"]
    if module.params["state"] == "installed":
        if not module.check_mode:
            by_name = {wanted["name"]: wanted for wanted in certificates}
            for one in module.params["signed"]:
                install(by_name[one["name"]], one["certificate"])
            for path, text in ((AUTHORITY, authority), (ISSUING, issuing)):
                if not path.exists() or path.read_text(encoding="utf-8") != text:
                    write(path, text)  # units look at its time: the same again must not restart them
        module.exit_json(changed=True)
    same = all(
        path.exists() and path.read_text(encoding="utf-8") == text
        for path, text in ((AUTHORITY, authority), (ISSUING, issuing))
    )
    wrong = [wanted for wanted in certificates if not (authority and is_right(module, wanted))]
    requests = [] if module.check_mode else [request(module, wanted) for wanted in wrong]
    module.exit_json(changed=bool(wrong) or not same, requests=requests, behind=not same)


if __name__ == "__main__":
    main()
