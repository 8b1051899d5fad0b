"""Practice nodes by hand: `python -m lab VERB`. What a verb prints on standard output is its result."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.image import build_image
from lab.nvml import build_library
from lab.record import Node
from lab.site import Site, list_sites, require_root

if TYPE_CHECKING:
    from collections.abc import Callable

SITE_VERBS = ("power-cut", "power-off", "start", "freeze", "thaw")


def main() -> int:
    """Do one verb; 0 done, 1 failed, 2 usage."""
    asked = _parser().parse_args()
    act: Callable[[argparse.Namespace], int] = asked.act
    try:
        require_root()
        return act(asked)
    except LabError as wrong:
        sys.stderr.write(f"error: {wrong}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    image = verbs.add_parser("image", help="build the node image when the cache has none, print its folder")
    image.add_argument("what", choices=["build"])
    image.set_defaults(act=_image)
    nvml = verbs.add_parser("nvml", help="compile the simulated driver library, print its path")
    nvml.add_argument("what", choices=["build"])
    nvml.set_defaults(act=_nvml)
    _add_life(verbs)
    _add_faults(verbs)
    _add_snapshots(verbs)
    return parser


def _add_life(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    up = _site_verb(verbs, "up", "bring nodes up and wait until they answer", _up)
    up.add_argument("--node", action="append", required=True, metavar="NAME=IP", dest="nodes")
    down = verbs.add_parser("down", help="remove every trace of a site")
    down.add_argument("site", nargs="?")
    down.add_argument("--all", action="store_true", dest="every")
    down.set_defaults(act=_down)
    status = verbs.add_parser("status", help="print sites and nodes as JSON")
    status.add_argument("site", nargs="?")
    status.set_defaults(act=_status)
    ssh = _site_verb(verbs, "ssh", "run a command on a node, or open a shell", _ssh)
    ssh.add_argument("node")
    ssh.add_argument("command", nargs="*")
    _site_verb(verbs, "counters", "print packet counters as JSON", _counters)


def _add_faults(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for verb in SITE_VERBS:
        one = _site_verb(verbs, verb, f"{verb} a node", _node_verb)
        one.add_argument("node")
        one.set_defaults(verb=verb.replace("-", "_"))
    partition = _site_verb(verbs, "partition", "cut a node off from others, or from all", _partition)
    partition.add_argument("node")
    partition.add_argument("others", nargs="*")
    heal = _site_verb(verbs, "heal", "undo partitions", _heal)
    heal.add_argument("node", nargs="?")
    heal.add_argument("others", nargs="*")


def _add_snapshots(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    snapshot = _site_verb(verbs, "snapshot", "keep the disks under a name", _snapshot)
    snapshot.add_argument("name")
    restore = _site_verb(verbs, "restore", "bring the site back to a snapshot", _restore)
    restore.add_argument("name")
    restore.add_argument("--as", dest="into", metavar="OTHERSITE", help="bring up a second site from it")


def _site_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    verb: str,
    text: str,
    act: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(verb, help=text)
    parser.add_argument("site")
    parser.set_defaults(act=act)
    return parser


def _image(_: argparse.Namespace) -> int:
    _say(str(build_image()))
    return 0


def _nvml(_: argparse.Namespace) -> int:
    _say(str(build_library()))
    return 0


def _up(asked: argparse.Namespace) -> int:
    began = time.monotonic()
    changed = Site(asked.site).up([Node.parse(text) for text in asked.nodes])
    took_s = time.monotonic() - began
    _say(
        f"site {asked.site} is up ({took_s:.1f} s)" if changed else f"site {asked.site} was already up; nothing changed"
    )
    return 0


def _down(asked: argparse.Namespace) -> int:
    if bool(asked.site) == asked.every:
        raise LabError("name one site, or say --all")
    # Newest first: a site made from a snapshot stands on the site that holds it.
    names = sorted(list_sites(), key=_age) if asked.every else [asked.site]
    for name in names:
        found = Site(name).down()
        _say(f"site {name} is gone" if found else f"there was no site {name}")
    return 0


def _age(name: str) -> float:
    return -Site(name).home.stat().st_ctime


def _status(asked: argparse.Namespace) -> int:
    names = [asked.site] if asked.site else list_sites()
    _say(json.dumps({name: Site(name).status() for name in names}, indent=2))
    return 0


def _ssh(asked: argparse.Namespace) -> int:
    site = Site(asked.site)
    site.status()
    return subprocess.run([*site.ssh_words(asked.node), *asked.command], check=False).returncode


def _counters(asked: argparse.Namespace) -> int:
    _say(json.dumps(Site(asked.site).counters(), indent=2))
    return 0


def _node_verb(asked: argparse.Namespace) -> int:
    getattr(Site(asked.site), asked.verb)(asked.node)
    return 0


def _partition(asked: argparse.Namespace) -> int:
    Site(asked.site).partition(asked.node, *asked.others)
    return 0


def _heal(asked: argparse.Namespace) -> int:
    Site(asked.site).heal(asked.node, *asked.others)
    return 0


def _snapshot(asked: argparse.Namespace) -> int:
    Site(asked.site).snapshot(asked.name)
    return 0


def _restore(asked: argparse.Namespace) -> int:
    began = time.monotonic()
    if asked.into:
        Site(asked.site).restore_as(asked.name, asked.into)
    else:
        Site(asked.site).restore(asked.name)
    _say(f"site {asked.into or asked.site} is up from {asked.name} ({time.monotonic() - began:.1f} s)")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
