"""The proof of a practice site: `redoubt site prove`, with the router as trap and as the place to knock from."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from lab import router
from lab.errors import LabError
from lab.network import namespace
from lab.places import REPOSITORY

if TYPE_CHECKING:
    from practice.site import PracticeSite

Json = dict[str, Any]  # what our own command prints
SHARED = REPOSITORY / "molecule" / "shared"


def prove(site: PracticeSite, *more: str) -> Json:
    """Try to leave as everybody and to come in; return the outcome whatever it is."""
    command = [str(word) for word in (*_redoubt(), "site", "prove", site.spec, *reach(site), *watched(site), *more)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, cwd=REPOSITORY)
    try:
        found: Json = json.loads(done.stdout)
    except ValueError:
        raise LabError(f"the proof did not run: {done.stderr.strip()}") from None
    return found


def reach(site: PracticeSite) -> tuple[object, ...]:
    """Return the words that say how the site is reached."""
    where = ("--ssh-config", site.lab.ssh_config, "--netns", namespace(site.lab.name))
    return ("--rendered", site.rendered, *where)


def watched(site: PracticeSite) -> tuple[str, ...]:
    """Return the words that say who watches from outside, and from where else to knock."""
    speaker = ("env", f"PYTHONPATH={SHARED}", sys.executable, "-m", "practice.trap", site.lab.name)
    return ("--trap", shlex.join(speaker), "--outside", shlex.join(router.enter_outside(site.lab.name)))


def _redoubt() -> tuple[str, ...]:
    return (sys.executable, "-m", "controlplane.main.redoubt")
