"""`make site`: bring a practice site up and ask it a question. `tools/site redoubt …` speaks to it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from lab import router
from lab.errors import LabError
from lab.site import Site, require_root

from practice.figures import memory_mb
from practice.people import ADMINISTRATOR
from practice.proof import prove
from practice.site import BIN, PracticeSite
from practice.stages import Stages

DEFAULT = "practice"


def main() -> int:
    """Do one verb; 0 done, 1 failed, 2 usage."""
    asked = _parser().parse_args()
    try:
        require_root()
        match asked.verb:
            case "up":
                return _up(asked.name, as_json=asked.json)
            case "down":
                return _down(asked.name)
            case "trap":
                return _trap(asked)
            case "gpu":
                sys.stdout.write(PracticeSite(asked.name).gpu(asked.node, *asked.words))
                return 0
            case _:
                return _redoubt(asked.name, asked.words)
    except LabError as wrong:
        sys.stderr.write(f"site: {wrong}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/site", description=__doc__)
    parser.add_argument("--name", default=DEFAULT, help="name of the practice site on this machine")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="bring the site up, from whatever is there to a chat answer")
    up.add_argument("--json", action="store_true", help="print the summary as JSON")
    verbs.add_parser("down", help="remove every trace of the site")
    trap = verbs.add_parser("trap", help="show every packet that came out of the site; 1 when there is any")
    trap.add_argument("--json", action="store_true", help="print them as JSON")
    trap.add_argument("--clear", action="store_true", help="forget them afterwards")
    redoubt = verbs.add_parser("redoubt", help="run the redoubt command inside the boundary, as its administrator")
    redoubt.add_argument("words", nargs=argparse.REMAINDER)
    gpu = verbs.add_parser("gpu", help="look at or break a node's simulated GPUs, as `redoubt practice gpu` does")
    gpu.add_argument("node")
    gpu.add_argument("words", nargs=argparse.REMAINDER)
    return parser


def _up(name: str, *, as_json: bool) -> int:
    site, stages = PracticeSite(name), Stages()
    with stages.stage("bundle"):
        site.prepare()
    with stages.stage("nodes"):
        booted = site.boot()
    with stages.stage("playbooks"):
        changed = site.install()
    with stages.stage("endpoint"):
        site.deploy()
    with stages.stage("answer"):
        answer = site.ask()
    with stages.stage("boundary"):
        proof = prove(site)
    summary = {
        "site": name,
        "changed": changed,
        "booted": booted,
        "api": answer.api,
        "gateway": answer.gateway,
        "answer": answer.text,
        "proof": proof,
        "bundle_bytes": site.bundle.with_name("bundle.tar").stat().st_size,
        "memory_mb": memory_mb(site.lab),
        "seconds": {stage: round(seconds, 1) for stage, seconds in stages.seconds.items()},
        "total_seconds": round(stages.total, 1),
    }
    sys.stdout.write(json.dumps(summary, indent=2) + "\n" if as_json else _prose(summary, site))
    return 0 if proof["verdict"] == "isolated" and answer.text else 1


def _prose(summary: dict[str, object], site: PracticeSite) -> str:
    spent, memory = _listed(summary["seconds"], "s"), _listed(summary["memory_mb"], "MB")
    state = f"changed={summary['changed']}" if summary["changed"] else "changed=0: the site was as its spec says"
    return f"""
Site {summary["site"]} is up ({state}).
  answer     {summary["answer"]}
  gateway    {summary["gateway"]}/v1   OpenAI-compatible; key in {site.lab.home}/inference.key, CA in {site.ca}
  admin API  {summary["api"]}/api/v1
  sign in    tools/site redoubt fleet   (any redoubt command, with the administrator's profile {site.profile})
  enter      nsenter --net=/run/netns/redoubt-{summary["site"]} ssh -F {site.lab.ssh_config} ctl1
  boundary   {_boundary(summary["proof"])}
  bundle     {int(str(summary["bundle_bytes"])) / 1e6:.0f} MB
  memory     {memory}
  seconds    {spent}; {summary["total_seconds"]} s in all
Take it down with: make site-down
"""


def _boundary(proof: object) -> str:
    if not isinstance(proof, dict):
        return "unknown"
    tried = sum(context["attempts"] for context in proof["contexts"])
    told = f"{tried} attempts as {len(proof['contexts'])} users and processes; signed in {proof['proof']}"
    return "; ".join([f"{proof['verdict']}: {proof['packets_outside']} packets left; {told}", *proof["reasons"]])


def _listed(figures: object, unit: str) -> str:
    return ", ".join(f"{name} {value} {unit}" for name, value in figures.items()) if isinstance(figures, dict) else ""


def _down(name: str) -> int:
    found = Site(name).down()
    sys.stdout.write(f"site {name}: {'removed' if found else 'there was none'}\n")
    return 0


def _trap(asked: argparse.Namespace) -> int:
    found = router.records(asked.name)
    if asked.json:
        sys.stdout.write(json.dumps({"packets": [packet.as_json() for packet in found]}, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{packet}\n" for packet in found) + f"{len(found)} packets came out\n")
    if asked.clear:
        router.clear(asked.name)
    return 1 if found else 0


def _redoubt(name: str, words: list[str]) -> int:
    site = PracticeSite(name)
    if site.profile.exists():
        site.people.stay_signed_in(ADMINISTRATOR)
    command = [*site.lab.enter, "env", f"REDOUBT_PROFILE={site.profile}", str(BIN / "redoubt"), *words]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
