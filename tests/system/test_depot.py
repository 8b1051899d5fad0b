"""The depot of a whole site: needed to install and not to run, and silent rather than wrong."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lab.places import REPOSITORY, cache
from practice.site import BIN, PracticeSite

from controlplane.bundle.memory import roots_in
from controlplane.kit.crypto import load_signing_key
from tests.support.bundles import SmallBundle
from tests.system.steps import wait_for

pytestmark = pytest.mark.system

DEPOT = "ctl1"
FOLDER = "/srv/redoubt/depot"


def test_with_the_depot_stopped_a_node_reboots_and_serves(site: PracticeSite) -> None:
    node = serving_node(site)
    site.lab.ssh(DEPOT, "systemctl stop nginx.service")
    try:
        site.lab.power_cut(node)
        site.lab.start(node)
        wait_for(site.answers, "an answer of the endpoint", within_s=180)
        wait_for(lambda: node_state(site, node) == "ready", f"{node} to be ready", within_s=120)
        assert site.lab.ssh(DEPOT, "systemctl is-active nginx.service", check=False).stdout.strip() == "inactive"
    finally:
        site.lab.ssh(DEPOT, "systemctl start nginx.service")


def test_a_flipped_byte_in_the_depot_keeps_its_server_from_starting_and_is_named_in_the_journal(
    site: PracticeSite,
) -> None:
    deb = site.lab.ssh(DEPOT, f"cd {FOLDER}/current && ls apt/pool/*.deb | head -1").stdout.strip()
    path = f"{FOLDER}/current/{deb}"
    site.lab.ssh(DEPOT, f"cp -a {path} /root/good.deb && printf X | dd of={path} bs=1 seek=5000 conv=notrunc")
    try:
        began = site.lab.ssh(DEPOT, "date '+%F %T'").stdout.strip()
        started = site.lab.ssh(DEPOT, "systemctl restart nginx.service", check=False)
        said = site.lab.ssh(DEPOT, f"journalctl -u redoubt-depot-check.service --since '{began}' -o cat").stdout
        state = site.lab.ssh(DEPOT, "systemctl is-active nginx.service", check=False).stdout.strip()
    finally:
        site.lab.ssh(DEPOT, f"cp -a /root/good.deb {path} && rm /root/good.deb && systemctl restart nginx.service")
    assert started.returncode != 0
    assert state != "active"
    assert f"{deb} is altered" in said
    assert site.lab.ssh(DEPOT, "systemctl is-active nginx.service").stdout.strip() == "active"


def test_the_import_log_of_the_depot_is_whole_and_names_the_bundle_that_is_served(site: PracticeSite) -> None:
    lines = site.lab.ssh(DEPOT, f"cat {FOLDER}/import.log").stdout.splitlines()
    current = site.lab.ssh(DEPOT, f"readlink {FOLDER}/current").stdout.strip()
    accepted = [entry for entry in map(json.loads, lines) if entry["result"] == "accepted"]
    assert accepted[-1]["digest"] == current


def test_a_bundle_that_nobody_trusted_signed_is_refused_by_the_node_and_leaves_the_one_before(
    site: PracticeSite, tmp_path: Path
) -> None:
    before = site.lab.ssh(DEPOT, f"readlink {FOLDER}/current").stdout.strip()
    stranger = SmallBundle(tmp_path / "stranger", serial=999)
    words = [*site.lab.ssh_words(DEPOT), "cat > /var/tmp/stranger.tar"]
    subprocess.run(words, input=stranger.archive.read_bytes(), check=True)

    done = site.lab.ssh(
        DEPOT,
        "PYTHONPATH=/usr/local/lib/redoubt-depot python3 -m controlplane.bundle.depot_program take-in "
        f"--source /var/tmp/stranger.tar --depot {FOLDER} --root /etc/redoubt/depot/root.json --who 'a test'; "
        "code=$?; rm -f /var/tmp/stranger.tar; exit $code",
        check=False,
    )

    assert done.returncode == 3
    assert "signed under another root" in done.stderr
    assert site.lab.ssh(DEPOT, f"readlink {FOLDER}/current").stdout.strip() == before
    assert "refused" in site.lab.ssh(DEPOT, f"tail -1 {FOLDER}/import.log").stdout


@pytest.mark.parametrize(
    "name", ["apt/dists/redoubt/InRelease", "apt/dists/redoubt/main/binary-amd64/Packages"], ids=["signed", "index"]
)
def test_a_node_takes_no_package_from_a_depot_whose_index_was_altered(site: PracticeSite, name: str) -> None:
    path = f"{FOLDER}/current/{name}"
    update = (
        "mkdir -p /tmp/lists/partial && apt-get -o Dir::State::Lists=/tmp/lists update 2>&1; code=$?; "
        "rm -rf /tmp/lists; exit $code"
    )
    site.lab.ssh(DEPOT, f"cp -a {path} /root/good && printf XY | dd of={path} bs=1 seek=900 conv=notrunc")
    try:
        done = site.lab.ssh("gpu1", update, check=False)
    finally:
        site.lab.ssh(DEPOT, f"cp -a /root/good {path} && rm /root/good")
    assert done.returncode != 0
    assert "E:" in done.stdout
    assert site.lab.ssh("gpu1", update).returncode == 0


def test_a_bundle_below_the_floor_is_refused_by_apply(site: PracticeSite, tmp_path: Path) -> None:
    remembering = tmp_path / "cache"
    shutil.copytree(cache() / "keys", remembering / "keys")
    key = load_signing_key(remembering / "keys/bundle.key")
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    root = roots_in(remembering / "keys/trust")[-1]
    newer = SmallBundle(tmp_path / "newer", key=key, root=root, serial=999, floor=999, expires_at=soon)
    redoubt(remembering, "bundle", "verify", newer.archive, check=True)

    done = redoubt(remembering, "site", "apply", site.spec, "--bundle", site.bundle, "--rendered", site.rendered)

    assert done.returncode == 3, done.stderr
    assert "below the floor 999" in done.stderr
    assert "next:" in done.stderr


def redoubt(remembering: Path, *words: object, check: bool = False) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "redoubt"), *(str(word) for word in words)]
    environment = {**os.environ, "REDOUBT_CACHE": str(remembering)}
    return subprocess.run(command, capture_output=True, text=True, check=check, cwd=REPOSITORY, env=environment)


def serving_node(site: PracticeSite) -> str:
    endpoint = site.redoubt_json("endpoint", "show", "tiny")
    return str(next(replica["node"] for replica in endpoint["replicas"] if replica["state"] == "ready"))


def node_state(site: PracticeSite, name: str) -> str:
    return str(site.redoubt_json("node", "show", name)["state"])
