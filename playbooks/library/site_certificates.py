"""A node's keys and certificates: requested from the site's authority, then put in place."""

from __future__ import annotations

import os
import shutil
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
    description: Certificate of the site's authority; empty when it is still to be made.
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
AUTHORITY = FOLDER / "ca.crt"
DAY_S = 86400


def is_right(module: AnsibleModule, wanted: dict[str, Any]) -> bool:
    """Tell whether key and certificate are there, belong together, carry the names, and last long enough."""
    key, certificate = FOLDER / f"{wanted['name']}.key", FOLDER / f"{wanted['name']}.crt"
    if not (key.exists() and certificate.exists() and key.owner() == wanted["owner"]):
        return False
    lasts = ["-checkend", str(module.params["renew_before_days"] * DAY_S)]
    shown = ["-noout", "-pubkey", "-subject", "-nameopt", "RFC2253", "-ext", "subjectAltName"]
    code, text, _ = module.run_command(["openssl", "x509", "-in", str(certificate), *lasts, *shown])
    if code or public_key(module, key) not in text or f"CN={wanted['common_name']}," not in text:
        return False
    return all(name in names_in(text) for name in names_of(wanted)) and len(names_in(text)) == len(names_of(wanted))


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
    fresh.rename(FOLDER / f"{wanted['name']}.key")
    write(FOLDER / f"{wanted['name']}.crt", certificate)


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
            "certificates": {"type": "list", "elements": "dict", "required": True},
            "signed": {"type": "list", "elements": "dict", "default": []},
            "renew_before_days": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    authority, certificates = module.params["authority"], module.params["certificates"]
    if module.params["state"] == "installed":
        if not module.check_mode:
            by_name = {wanted["name"]: wanted for wanted in certificates}
            for one in module.params["signed"]:
                install(by_name[one["name"]], one["certificate"])
            write(AUTHORITY, authority)
        module.exit_json(changed=True)
    same = AUTHORITY.exists() and AUTHORITY.read_text(encoding="utf-8") == authority
    wrong = [wanted for wanted in certificates if not (same and is_right(module, wanted))]
    requests = [] if module.check_mode else [request(module, wanted) for wanted in wrong]
    module.exit_json(changed=bool(wrong), requests=requests)


if __name__ == "__main__":
    main()
