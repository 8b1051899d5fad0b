"""Proves on one node that nothing leaves it: `prove.py run` tries as everybody, `prove.py sign` signs a site's proof.

Standard library and the node's own nft, openssl and sbatch. All it changes is two counters of its own, for seconds.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import contexts
import kernel

Json = dict[str, Any]  # a proof is plain JSON

CONFIG = Path("/etc/redoubt/proof.json")
KEYS = Path("/etc/redoubt/tls")
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)
LAST = Path("/var/lib/redoubt-proof/last.json")
LOCK = Path("/run/redoubt-proof.lock")
NODE_DOMAIN, SITE_DOMAIN = b"redoubt-proof-node-1\0", b"redoubt-proof-site-1\0"
CONTEXT_S, JOB_S = 45.0, 20.0
NOT_CHECKED = [
    "frames that root writes to a packet socket: they pass below nftables, and only a trap outside sees them",
    "hardware beside the kernel: a management controller or a network card with a mind of its own",
]


def main() -> None:
    """Do one verb."""
    parser = argparse.ArgumentParser(prog="prove.py", description=__doc__)
    parser.add_argument("verb", choices=["run", "sign"])
    parser.add_argument("--run", default="", help="name of the run that this is part of")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--keys", type=Path, default=KEYS)
    parser.add_argument(
        "--last",
        type=Path,
        default=LAST,
        help="where the newest proof of this node is kept; that of the site is beside it",
    )
    asked = parser.parse_args()
    if asked.verb == "sign":
        whole = sign_site(json.load(sys.stdin), asked.keys)
        text = json.dumps(whole)
        if whole["signature"]:
            keep(asked.last.with_name("site.json"), text)
    else:
        text = prove(json.loads(asked.config.read_text()), asked.run, asked.keys)
        keep(asked.last, text)
    sys.stdout.write(text + "\n")


def prove(config: Json, run: str, keys: Path) -> str:
    """Try everything once and return the signed part of this node; two proofs at once would count each other."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        part = observe(config, run)
    return json.dumps(signed(part, NODE_DOMAIN, keys, "node"))


def sign_site(proof: Json, keys: Path) -> Json:
    """Sign the proof of a whole site as its authority's node; nothing else is signed."""
    if proof.get("format") != 1 or not {"site", "run", "nodes", "verdict"} <= proof.keys():
        raise SystemExit("prove.py: this is no proof of a site")
    return signed(proof, SITE_DOMAIN, keys, "proof")


def observe(config: Json, run: str) -> Json:
    """Return everything that was tried and seen."""
    plan, started = plan_of(config), _now()
    ipv4 = sorted({*plan["ipv4"], *plan["routers"], *(host for host in plan["metadata"] if ":" not in host)})
    ipv6 = sorted({*plan["ipv6"], "ff02::1", *(host for host in plan["metadata"] if ":" in host)})
    before = kernel.counters()
    with kernel.Witness(ipv4, ipv6, plan["resolvers"]) as witness:
        tried = try_everything(config, plan)
        left, after = witness.counts(), kernel.counters()
    return {
        "format": 1,
        "site": config["site"], "zone": config["zone"], "node": config["node"], "run": run,
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "started_at": started, "ended_at": _now(),
        "rules_sha256": kernel.rules_digest(Path(config["rules"])), "loaded_sha256": kernel.loaded_digest(),
        "policies": kernel.policies(), "drops_before": before, "drops_after": after, "witness": left,
        "expected": config["accounts"], "expects_job": config["job"] is not None,
        "routers": plan["routers"], "gateways": kernel.gateways(), "destinations": [*ipv4, *ipv6],
        "contexts": tried, "listening": kernel.listening(), "not_checked": not_checked(config, tried),
    }  # fmt: skip


def plan_of(config: Json) -> Json:
    """Return what every context tries: the site's destinations and what this node itself would use."""
    fields = ("ipv4", "ipv6", "metadata", "wait_s", "own_ports")
    own = {"resolvers": kernel.resolvers(), "interfaces": kernel.interfaces()}
    return {
        **{name: config[name] for name in fields}, **own, "routers": sorted({*config["routers"], *kernel.gateways()})
    }  # fmt: skip


def try_everything(config: Json, plan: Json) -> list[Json]:
    """Run all contexts side by side, the Slurm job beside them, and look for traces of proxies as root."""
    found = contexts.find(config["accounts"], config["replica_commands"])
    job = contexts.start_job(config["job"], plan) if config["job"] else None
    every = contexts.run_all(found, plan, CONTEXT_S)
    add_traces(every[0])
    return [*every, job.result(JOB_S)] if job else every


def add_traces(root: Json) -> None:
    """Add to the attempts of root what the node's files would let it use."""
    traces = list(kernel.proxy_traces())
    outcomes = next((kind["outcomes"] for kind in root["attempts"] if kind["kind"] == "proxy"), None)
    if outcomes is None:
        return
    for where, present in traces:
        word = "present" if present else "absent"
        outcomes[word] = outcomes.get(word, 0) + 1
        if present:
            root["anomalies"].append({"kind": "proxy", "target": where, "outcome": word, "detail": "sets a proxy"})


def not_checked(config: Json, tried: list[Json]) -> list[str]:
    """Say what this proof does not tell."""
    missing = [] if any(one["kind"] == "replica" for one in tried) else ["an inference replica: none ran on this node"]
    return [*NOT_CHECKED, *(missing if config["job"] else [])]


def signed(proof: Json, domain: bytes, keys: Path, name: str) -> Json:
    """Sign with a key of this node; without one it stays unsigned, and nobody will take it for a proof."""
    key, certificate = keys / f"{name}.key", keys / f"{name}.crt"
    if not (key.is_file() and certificate.is_file()):
        return {"payload": _canonical({**proof, "certificate_sha256": ""}), "signature": "", "certificate": ""}
    der, *above = [ssl.PEM_cert_to_DER_cert(pem) for pem in CERTIFICATE.findall(certificate.read_text())]
    text = _canonical({**proof, "certificate_sha256": hashlib.sha256(der).hexdigest()})
    words = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    done = subprocess.run(words, input=domain + text.encode(), capture_output=True, check=True)
    encoded = {"signature": base64.b64encode(done.stdout).decode(), "certificate": base64.b64encode(der).decode()}
    issuer = {"issuer": base64.b64encode(above[0]).decode()} if above else {}  # the authority between it and the root
    return {"payload": text, **encoded, **issuer}


def keep(path: Path, text: str) -> None:
    """Replace a newest proof in one step, readable by the agent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.rename(path)


def _canonical(value: Json) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


if __name__ == "__main__":
    main()
