"""Isolation proofs as a site makes them: real keys, real certificates, evidence that a test may change."""

from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any  # evidence is changed key by key

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from controlplane.contracts.proof import NODE_DOMAIN, SITE_DOMAIN, NodePart, SiteProof
from controlplane.domains.health.rules import judge_site
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.tls import CertificateFiles
from tests.support.certificates import SiteCa, issue, make_site_ca

KINDS = ("tcp", "udp", "icmp", "dns", "ntp", "other", "ip6", "metadata", "proxy")
NODES = {"ctl1": "10.77.0.10", "gpu1": "10.77.0.11"}
RUN = "run_0123456789"
END = datetime.now(UTC).replace(microsecond=0)
Evidence = dict[str, Any]


def make_context(name: str = "root", uid: int = 0, **more: Any) -> Evidence:
    kind = {"root": "root", "slurm job": "job"}.get(name, "service")
    attempts = [{"kind": one, "outcomes": {"absent" if one == "proxy" else "denied": 4}} for one in KINDS]
    control = {"tcp": True, "udp": True}
    own = {
        "name": name,
        "kind": kind,
        "uid": uid,
        "control": control,
        "attempts": attempts,
        "anomalies": [],
        "error": "",
    }
    return {**own, **more}


def make_part(node: str = "gpu1", **more: Any) -> Evidence:
    """Return the evidence of a node that is isolated: 3 contexts with 32 packets each, all of them counted."""
    contexts = [make_context(), make_context("user nobody", 65534), make_context("slurm job", 2001)]
    return {
        "format": 1, "site": "practice", "zone": "north", "node": node, "run": RUN, "boot_id": "b",
        "certificate_sha256": "",
        "started_at": _text(END - timedelta(seconds=4)), "ended_at": _text(END),
        "rules_sha256": "a" * 64, "loaded_sha256": "b" * 64,
        "policies": {"input": "drop", "output": "drop", "forward": "drop"},
        "drops_before": {"dropped_out": 10}, "drops_after": {"dropped_out": 106}, "witness": {"tried": 96, "left": 0},
        "expected": ["nobody"], "expects_job": True, "routers": ["10.77.0.254"], "gateways": [],
        "destinations": ["192.0.2.1"], "contexts": contexts, "listening": [], "not_checked": ["the moon"], **more,
    }  # fmt: skip


def make_vantage(**more: Any) -> Evidence:
    allowed = [{"node": node, "protocol": "tcp", "first": 22, "last": 22, "flow": "ssh"} for node in NODES]
    answered = [{"node": node, "protocol": "tcp", "port": 22, "how": "connected"} for node in NODES]
    own = {"name": "controller", "address": "10.77.0.1", "control": True, "asked": dict.fromkeys(NODES, 1024)}
    return {**own, "allowed": allowed, "answered": answered, "error": "", **more}


@dataclass(frozen=True)
class Signer:
    """A site's authority and the keys of its nodes."""

    ca: SiteCa
    files: dict[str, CertificateFiles]

    def sign(self, evidence: Evidence, who: str, domain: bytes) -> dict[str, str]:
        der = x509.load_pem_x509_certificate(self.files[who].certificate.read_bytes()).public_bytes(Encoding.DER)
        payload = canonical_json({**evidence, "certificate_sha256": sha256_hex(der)})
        key = load_pem_private_key(self.files[who].key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signature = key.sign(domain + payload, ec.ECDSA(hashes.SHA256()))
        encoded = {"signature": b64encode(signature).decode(), "certificate": b64encode(der).decode()}
        return {"payload": payload.decode(), **encoded}

    def sign_part(self, part: Evidence, who: str = "") -> dict[str, str]:
        return self.sign(part, who or part["node"], NODE_DOMAIN)

    def proof(self, *parts: Evidence, **more: Any) -> bytes:
        """Return the file of a proof with these parts, judged as its own evidence says unless told otherwise."""
        whole = {**self.whole({part["node"]: self.sign_part(part) for part in parts}), **more}
        if "verdict" not in more:
            read = SiteProof.model_validate({**whole, "verdict": "isolated", "reasons": ()}, strict=False)
            judged = judge_site(read, {n: NodePart.model_validate_json(s.payload) for n, s in read.nodes.items()})
            whole |= {"verdict": judged.verdict, "reasons": list(judged.reasons)}
        return canonical_json(self.sign(whole, "proof", SITE_DOMAIN)) + b"\n"

    def whole(self, nodes: dict[str, dict[str, str]]) -> Evidence:
        declared = [{"name": name, "zone": "north", "address": address} for name, address in NODES.items()]
        return {
            "format": 1, "site": "practice", "run": RUN, "certificate_sha256": "",
            "started_at": _text(END - timedelta(seconds=9)), "ended_at": _text(END),
            "spec_sha256": "c" * 64, "bundle_sha256": "d" * 64, "declared": declared, "nodes": nodes, "absent": {},
            "outside_in": [make_vantage()], "trap": {"recorder": "r", "heard_canary": True, "packets": [], "error": ""},
            "not_checked": ["the stars"],
        }  # fmt: skip


def make_signer(folder: Path) -> Signer:
    ca = make_site_ca(folder)
    files = {name: issue(ca, name, uri=f"redoubt://practice/zone/north/node/{name}") for name in NODES}
    files["proof"] = issue(ca, "proof", uri="redoubt://practice/zone/north/service/proof")
    return Signer(ca, files)


def _text(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")
