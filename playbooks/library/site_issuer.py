"""The issuing authority under the site's root: its key stays on the control plane, where certificates are renewed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: site_issuer
short_description: Make the issuing authority of a site and sign leaves with it
description:
  - C(requested) makes a key and returns a request for the root, unless a right certificate is there.
  - C(installed) puts the certificate that the root signed in place.
  - C(signed) signs leaves with the names that the inventory declares; a request only proves that the node has the key.
options:
  state:
    description: Which part of the work to do.
    type: str
    choices: [requested, installed, signed]
    required: true
  root:
    description: Certificate of the site's root; empty when it is still to be made.
    type: str
    default: ""
  issuing:
    description: What the root signed.
    type: str
    default: ""
  site_name:
    description: Name of the site.
    type: str
    default: ""
  network:
    description: The site's network, the only one whose addresses its leaves may carry.
    type: str
    default: ""
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
    description: How long a certificate is valid that nobody renews but the play.
    type: int
    default: 365
  leaf_minutes:
    description: How long a certificate is valid that its holder renews.
    type: int
    default: 2880
author: Redoubt
"""

FOLDER = Path("/etc/redoubt/issuing")
KEY, CERTIFICATE = FOLDER / "issuing.key", FOLDER / "issuing.crt"
OWNER = "redoubt"
RENEW_BEFORE_S = 400 * 86400
PLAIN = re.compile(r"[A-Za-z0-9._:/-]+")  # a line break or a comma would add to what is signed
USAGES = {"server": "serverAuth", "client": "clientAuth", "sign": "codeSigning"}
EXTENSIONS = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = {usages}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


def is_right(module: AnsibleModule) -> bool:
    """Tell whether key and certificate are there, under this root, for this site and network, and last."""
    root = module.params["root"]
    if not (root and KEY.exists() and CERTIFICATE.exists() and KEY.owner() == OWNER):
        return False
    with tempfile.NamedTemporaryFile("w") as trusted:
        trusted.write(root)
        trusted.flush()
        verify = ["openssl", "verify", "-CAfile", trusted.name, str(CERTIFICATE)]
        code, _, _ = module.run_command(verify)
    shown = ["openssl", "x509", "-in", str(CERTIFICATE), "-noout", "-checkend", str(RENEW_BEFORE_S), "-pubkey", "-ext"]
    lasts, text, _ = module.run_command([*shown, "nameConstraints"])
    _, public, _ = module.run_command(["openssl", "pkey", "-in", str(KEY), "-pubout"])
    bound = f"URI:{module.params['site_name']}" in text and module.params["network"].split("/", maxsplit=1)[0] in text
    return not code and not lasts and bound and public.strip() in text


def request(module: AnsibleModule) -> str:
    """Make the key if there is none and return a request for it."""
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    FOLDER.parent.chmod(0o755)
    if not KEY.exists():
        fresh = FOLDER / ".issuing.key.new"
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(fresh)]
        module.run_command(["openssl", "genpkey", *curve], check_rc=True)
        fresh.rename(KEY)
    shutil.chown(KEY, OWNER, OWNER)
    KEY.chmod(0o400)
    asked = ["openssl", "req", "-new", "-key", str(KEY), "-subj", "/O=Redoubt/CN=issuing"]
    _, text, _ = module.run_command(asked, check_rc=True)
    return text


def write(path: Path, content: str) -> None:
    """Replace a public file in one step."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(content, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.rename(path)


def declared(module: AnsibleModule, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what the inventory declares for a request; fail when it declares nothing, or no plain names."""
    wanted = next((one for one in module.params["certificates"] if one["name"] == asked.get("name")), None)
    if wanted is None:
        module.fail_json(
            msg=f"The node asks for a certificate {asked.get('name')!r} that the inventory does not declare for it. "
            "Look at who changed the node: nothing was signed."
        )
    for value in [wanted["common_name"], wanted["uri"], *wanted["dns"], *wanted["ip"]]:
        if not PLAIN.fullmatch(value) or (value == wanted["common_name"] and "/" in value):
            module.fail_json(msg=f"{value!r} cannot be a name in a certificate. Correct it in the inventory.")
    return wanted


def sign(module: AnsibleModule, wanted: dict[str, Any], asked: str, folder: Path) -> dict[str, str]:
    """Return the certificate of one request with the declared names, and that of its authority behind it."""
    made, extensions, out = folder / "request.pem", folder / "extensions", folder / "certificate.pem"
    made.write_text(asked, encoding="utf-8")
    names = [f"DNS:{name}" for name in wanted["dns"]] + [f"IP:{address}" for address in wanted["ip"]]
    text = EXTENSIONS.format(
        names=", ".join([*names, f"URI:{wanted['uri']}"]),
        usages=", ".join(USAGES[usage] for usage in wanted["usages"]),
    )
    extensions.write_text(text, encoding="utf-8")
    minutes = module.params["leaf_minutes"] if wanted["renewed"] else module.params["lifetime_days"] * 1440
    subject = ["-in", str(made), "-subj", f"/O=Redoubt/CN={wanted['common_name']}"]
    authority = ["-CA", str(CERTIFICATE), "-CAkey", str(KEY), "-extfile", str(extensions), "-out", str(out)]
    lasts = ["-not_after", ends(module, minutes)]
    module.run_command(["openssl", "x509", "-req", *subject, *authority, *lasts], check_rc=True)
    return {"name": wanted["name"], "certificate": out.read_text("utf-8") + CERTIFICATE.read_text("utf-8")}


def ends(module: AnsibleModule, minutes: int) -> str:
    """Return the end of a certificate in the form that openssl takes; the clock is that of this node."""
    _, text, _ = module.run_command(["date", "--utc", f"--date=+{minutes} minutes", "+%Y%m%d%H%M%SZ"], check_rc=True)
    return text.strip()


def do_signed(module: AnsibleModule) -> None:
    """Sign every request of one node."""
    requests = module.params["requests"]
    if module.check_mode:
        module.exit_json(changed=bool(requests), signed=[])
    pairs = [(declared(module, one), one["request"]) for one in requests]
    with (FOLDER.parent / ".issuing.lock").open("w") as lock, tempfile.TemporaryDirectory() as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)  # every node of the site may ask at the same moment
        signed = [sign(module, wanted, asked, Path(folder)) for wanted, asked in pairs]
    module.exit_json(changed=bool(signed), signed=signed)


def main() -> None:
    """Do one part of the work."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["requested", "installed", "signed"], "required": True},
            "root": {"type": "str", "default": ""},
            "issuing": {"type": "str", "default": ""},
            "site_name": {"type": "str", "default": ""},
            "network": {"type": "str", "default": ""},
            "certificates": {"type": "list", "elements": "dict", "default": []},
            "requests": {"type": "list", "elements": "dict", "default": []},
            "lifetime_days": {"type": "int", "default": 365},
            "leaf_minutes": {"type": "int", "default": 2880},
        },
        supports_check_mode=True,
    )
    if module.params["state"] == "signed":
        do_signed(module)
    if module.params["state"] == "installed":
        if not module.check_mode:
            write(CERTIFICATE, module.params["issuing"])
        module.exit_json(changed=True)
    right = is_right(module)
    present = CERTIFICATE.read_text("utf-8") if right else ""
    asked = "" if right or module.check_mode else request(module)
    module.exit_json(changed=not right, request=asked, certificate=present)


if __name__ == "__main__":
    main()
