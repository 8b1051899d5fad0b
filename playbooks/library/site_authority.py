"""The site's root: made once, signs the issuing authority, and may then be taken away."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: site_authority
short_description: Make the site's root and sign its issuing authority
description:
  - Makes an EC P-256 root at /etc/redoubt/authority if there is none, and returns its certificate.
  - Signs the request of the issuing authority, which may sign leaves of this site and network and nothing else.
  - The root's key is needed for nothing else. Without it, what is there goes on; only a new issuing authority waits.
options:
  site_name:
    description: Name of the site.
    type: str
    required: true
  network:
    description: The site's network.
    type: str
    required: true
  request:
    description: Request of the issuing authority, if it has none yet.
    type: str
    default: ""
author: Redoubt
"""

FOLDER = Path("/etc/redoubt/authority")
KEY, CERTIFICATE = FOLDER / "ca.key", FOLDER / "ca.crt"
AUTHORITY_DAYS, ISSUING_DAYS = 3650, 1830
ISSUING = """\
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
extendedKeyUsage = serverAuth, clientAuth, codeSigning
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
nameConstraints = critical, permitted;URI:{site}, permitted;IP:{network}
"""


def make(module: AnsibleModule) -> None:
    """Make the root's certificate, and its key unless there is one; the certificate comes last."""
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    FOLDER.parent.chmod(0o755)
    fresh = FOLDER / "ca.crt.new"
    subject = f"/O=Redoubt/CN={module.params['site_name']} site authority"
    if not KEY.exists():
        curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(KEY)]
        openssl(module, "genpkey", *curve)
        KEY.chmod(0o600)
    usage = [
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-addext",
        "basicConstraints=critical,CA:TRUE,pathlen:1",
    ]
    words = ["-key", str(KEY), "-days", str(AUTHORITY_DAYS), "-subj", subject, *usage, "-out", str(fresh)]
    openssl(module, "req", "-x509", *words)
    fresh.rename(CERTIFICATE)


def has_room(module: AnsibleModule) -> bool:
    """Tell whether there is a root that may have an authority under it; older ones had room for leaves alone."""
    if not CERTIFICATE.exists():
        return False
    shown = ["openssl", "x509", "-in", str(CERTIFICATE), "-noout", "-ext", "basicConstraints"]
    _, text, _ = module.run_command(shown, check_rc=True)
    return "pathlen:1" in text.replace(" ", "")


def sign_issuing(module: AnsibleModule) -> str:
    """Return the certificate of the issuing authority."""
    if not KEY.exists():
        module.fail_json(
            msg=f"The issuing authority needs a new certificate and the root's key is not at {KEY}. "
            "Bring it back for this one run, then take it away again."
        )
    with tempfile.TemporaryDirectory() as folder:
        asked, extensions, out = (Path(folder) / name for name in ("request", "extensions", "certificate"))
        asked.write_text(module.params["request"], encoding="utf-8")
        text = ISSUING.format(site=module.params["site_name"], network=masked(module.params["network"]))
        extensions.write_text(text, encoding="utf-8")
        subject = f"/O=Redoubt/CN={module.params['site_name']} issuing authority"
        authority = ["-CA", str(CERTIFICATE), "-CAkey", str(KEY), "-days", str(ISSUING_DAYS)]
        words = ["-in", str(asked), "-subj", subject, *authority, "-extfile", str(extensions), "-out", str(out)]
        openssl(module, "x509", "-req", *words)
        return out.read_text(encoding="utf-8")


def masked(network: str) -> str:
    """Return a network as openssl writes it, with its mask: 10.77.0.0/255.255.255.0."""
    address, _, bits = network.partition("/")
    mask = (0xFFFFFFFF << (32 - int(bits))) & 0xFFFFFFFF
    return f"{address}/" + ".".join(str(mask >> shift & 255) for shift in (24, 16, 8, 0))


def openssl(module: AnsibleModule, *words: str) -> None:
    """Run openssl; fail with its own words."""
    module.run_command(["openssl", *words], check_rc=True)


def main() -> None:
    """Make what is missing, sign what is asked."""
    module = AnsibleModule(
        argument_spec={
            "site_name": {"type": "str", "required": True},
            "network": {"type": "str", "required": True},
            "request": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    missing, asked = not has_room(module), module.params["request"]
    if module.check_mode:
        present = "" if missing else CERTIFICATE.read_text(encoding="utf-8")
        module.exit_json(changed=missing or bool(asked), certificate=present, issuing="")
    if missing:
        make(module)
    issuing = sign_issuing(module) if asked else ""
    certificate = CERTIFICATE.read_text(encoding="utf-8")
    module.exit_json(changed=missing or bool(issuing), certificate=certificate, issuing=issuing)


if __name__ == "__main__":
    main()
