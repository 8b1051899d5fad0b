"""`python -m controlplane.main.join --config FILE --url URL`: let this machine in with a join token.

The key is made here and stays here. The token is asked for, or read from REDOUBT_JOIN_TOKEN: as an argument every
user of the machine could read it. The fingerprint that is printed must be the one that `redoubt node pending` shows.
"""

import argparse
import getpass
import os
import sys
import time
from pathlib import Path

from cryptography import x509

from controlplane.client.admin import Link
from controlplane.client.machines import MachinesClient
from controlplane.contracts.pki import AskJoin, Joined
from controlplane.kit.errors import BadInput, RedoubtError, Refused, Unavailable
from controlplane.kit.issuing import make_request, read_request, serial_of
from controlplane.kit.leaf import lay_pair
from controlplane.kit.tls import CertificateFiles, client_context
from controlplane.main.settings import AgentSettings, read_settings

ASK_AGAIN_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m controlplane.main.join", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="settings of this machine's agent, TOML")
    parser.add_argument("--url", required=True, help="the admin API, e.g. https://ctl1:8443")
    parser.add_argument(
        "--wait", type=float, default=600, help="seconds to wait for an approval, where a site wants one"
    )
    asked = parser.parse_args()
    try:
        files = files_of(asked.config)
        join(files, asked.url.rstrip("/"), _token(), wait_s=asked.wait)
    except RedoubtError as error:
        sys.stderr.write(f"redoubt-join: {error.detail}\n  next: {error.remedy}\n")
        raise SystemExit(error.exit_code) from None


def join(files: CertificateFiles, url: str, token: str, *, wait_s: float) -> None:
    """Make a key, ask until there is a certificate for it, and lay both down for the agent."""
    key_pem, request_pem = make_request("")
    fingerprint = read_request(request_pem).fingerprint
    _say(f"fingerprint of this machine's new key: {fingerprint}")
    with MachinesClient(Link(url, None, client_context(files.ca))) as client:
        joined = _ask_until_decided(client, AskJoin(token=token, request_pem=request_pem), wait_s)
    certificate = x509.load_pem_x509_certificate(joined.certificate_pem.encode())
    if joined.fingerprint != fingerprint or certificate.public_key() != read_request(request_pem).key:
        raise Refused("the answer is for another key", remedy="look at the control plane: nothing was changed here")
    lay_pair(files.certificate.parent.parent, serial_of(certificate), key_pem, joined.certificate_pem)
    _say(f"this machine is {joined.node} of zone {joined.zone} until {certificate.not_valid_after_utc.isoformat()}")


def _ask_until_decided(client: MachinesClient, ask: AskJoin, wait_s: float) -> Joined:
    ends_at = time.monotonic() + wait_s
    told = False
    while not (joined := client.join(ask)).certificate_pem:
        if not told:
            _say(f"waits for: redoubt node approve {joined.id} --fingerprint {joined.fingerprint}")
            told = True
        if time.monotonic() > ends_at:
            raise Unavailable("nobody let this machine in yet", remedy="ask for a new token when somebody is there")
        time.sleep(ASK_AGAIN_S)
    return joined


def files_of(config: Path) -> CertificateFiles:
    """Return where the agent keeps its pair; raises BadInput on a machine that was never installed."""
    tls = read_settings(AgentSettings, config).control_plane.tls
    if tls is None or not tls.certificate.parent.parent.is_dir():
        raise BadInput(
            "the agent's settings name no place for a certificate",
            remedy="install the node first: redoubt site apply SITE.YML; join replaces its certificate",
        )
    return tls.files


def _token() -> str:
    token = os.environ.get("REDOUBT_JOIN_TOKEN") or getpass.getpass("join token: ")
    return token.strip()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
