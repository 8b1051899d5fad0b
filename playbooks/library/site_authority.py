"""The site's certificate authority: made once, signs what the inventory declares."""

from __future__ import annotations

import fcntl
import re
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: site_authority
short_description: Make the site's authority and sign requests
description:
  - Makes an EC P-256 authority at /etc/redoubt/authority if there is none, and returns its certificate.
  - Signs each request with the names that the inventory declares; a request only proves that the node has the key.
options:
  site_name:
    description: Name of the site.
    type: str
    required: true
  certificates:
    description: Certificates that the inventory declares for the node that asks.
    type: list
    elements: dict
    default: []
  requests:
    description: What the node asks to have signed; C(name) says which certificate, C(request) is the request.
    type: list
    elements: dict
    default: []
  lifetime_days:
    description: How long a certificate is valid.
    type: int
    default: 365
author: Redoubt
"""

FOLDER = Path("/etc/redoubt/authority")
KEY, CERTIFICATE = FOLDER / "ca.key", FOLDER / "ca.crt"
AUTHORITY_DAYS = 3650
PLAIN = re.compile(r"[A-Za-z0-9._:/-]+")  # a line break or a comma would add to what is signed
EXTENSIONS = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


def make(module: AnsibleModule) -> None:
    """Make key and certificate of the authority; the certificate comes last and means that both are there."""
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    FOLDER.parent.chmod(0o755)
    fresh = FOLDER / "ca.crt.new"
    subject = f"/O=Redoubt/CN={module.params['site_name']} site authority"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", str(KEY)]
    usage = [
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-addext",
        "basicConstraints=critical,CA:TRUE,pathlen:0",
    ]
    openssl(module, "req", "-x509", *curve, "-days", str(AUTHORITY_DAYS), "-subj", subject, *usage, "-out", str(fresh))
    KEY.chmod(0o600)
    fresh.rename(CERTIFICATE)


def declared(module: AnsibleModule, request: dict[str, Any]) -> dict[str, Any]:
    """Return what the inventory declares for a request; fail when it declares nothing, or no plain names."""
    wanted = next((one for one in module.params["certificates"] if one["name"] == request.get("name")), None)
    if wanted is None:
        module.fail_json(
            msg=f"The node asks for a certificate {request.get('name')!r} that the inventory does not declare for it. "
            "Look at who changed the node: nothing was signed."
        )
    for value in [wanted["common_name"], wanted["uri"], *wanted["dns"], *wanted["ip"]]:
        if not PLAIN.fullmatch(value) or (value == wanted["common_name"] and "/" in value):
            module.fail_json(msg=f"{value!r} cannot be a name in a certificate. Correct it in the inventory.")
    return wanted


def sign(module: AnsibleModule, wanted: dict[str, Any], request: str, folder: Path) -> dict[str, str]:
    """Return the certificate of one request, with the declared names."""
    asked, extensions, out = folder / "request.pem", folder / "extensions", folder / "certificate.pem"
    asked.write_text(request, encoding="utf-8")
    names = [f"DNS:{name}" for name in wanted["dns"]] + [f"IP:{address}" for address in wanted["ip"]]
    extensions.write_text(EXTENSIONS.format(names=", ".join([*names, f"URI:{wanted['uri']}"])), encoding="utf-8")
    authority = ["-CA", str(CERTIFICATE), "-CAkey", str(KEY)]
    days = ["-days", str(module.params["lifetime_days"]), "-extfile", str(extensions)]
    subject = f"/O=Redoubt/CN={wanted['common_name']}"
    openssl(module, "x509", "-req", "-in", str(asked), "-subj", subject, *authority, *days, "-out", str(out))
    return {"name": wanted["name"], "certificate": out.read_text(encoding="utf-8")}


def openssl(module: AnsibleModule, *words: str) -> None:
    """Run openssl; fail with its own words."""
    module.run_command(["openssl", *words], check_rc=True)


def main() -> None:
    """Make what is missing, sign what is asked."""
    module = AnsibleModule(
        argument_spec={
            "site_name": {"type": "str", "required": True},
            "certificates": {"type": "list", "elements": "dict", "default": []},
            "requests": {"type": "list", "elements": "dict", "default": []},
            "lifetime_days": {"type": "int", "default": 365},
        },
        supports_check_mode=True,
    )
    missing = not CERTIFICATE.exists()
    requests = module.params["requests"]
    if module.check_mode:
        present = "" if missing else CERTIFICATE.read_text(encoding="utf-8")
        module.exit_json(changed=missing or bool(requests), certificate=present, signed=[])
    pairs = [(declared(module, request), request["request"]) for request in requests]
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with (FOLDER.parent / ".authority.lock").open("w") as lock, tempfile.TemporaryDirectory() as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)  # every node of the site may ask at the same moment
        if not CERTIFICATE.exists():
            make(module)
        signed = [sign(module, wanted, request, Path(folder)) for wanted, request in pairs]
    certificate = CERTIFICATE.read_text(encoding="utf-8")
    module.exit_json(changed=missing or bool(signed), certificate=certificate, signed=signed)


if __name__ == "__main__":
    main()
