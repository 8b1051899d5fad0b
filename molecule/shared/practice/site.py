"""From nothing to a chat answer inside a practice site. Every step may be repeated; what stands is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any  # JSON of our own commands has no narrower type

import yaml
from lab.errors import LabError
from lab.image import build_image
from lab.network import namespace
from lab.nvml import build_library
from lab.places import PRACTICE, REPOSITORY, cache
from lab.record import Node
from lab.shell import wait_until
from lab.site import Site

from practice import bundle
from practice.people import ADMINISTRATOR, People

SPEC = REPOSITORY / "inventory" / "practice" / "site.yml"
BIN = Path(sys.executable).parent
ENDPOINT = "tiny"
MODEL = "practice-tiny"
QUESTION = "What keeps a fortress safe?"
READY_WITHIN_S = 90
ENROL_CODE = (
    "runuser -u redoubt -- /opt/redoubt/venv/bin/python -m controlplane.main.enrol_code --config /etc/redoubt/api.toml"
)
GPU_STATE = "/var/lib/redoubt-practice/nvml.state"


@dataclass(frozen=True)
class Answer:
    """What the site said, and through which addresses."""

    api: str
    gateway: str
    text: str


class PracticeSite:
    """One practice site: lab nodes, the bundle they are made of, and the site on them."""

    def __init__(self, name: str, spec: Path = SPEC) -> None:
        """Read the spec; nothing is made yet."""
        self.lab = Site(name)
        self.spec = spec
        self._site = yaml.safe_load(spec.read_text())
        self.bundle = cache() / "practice" / "bundle"
        self.rendered = self.lab.home / "rendered"
        self.ca = self.lab.home / "site-ca.crt"
        self.api = f"https://{self._address('control_plane')}:8443"
        self.gateway = f"https://{self._address('gateways')}:9443"
        self.people = People(self.lab.home, (self.api, self.gateway, self.ca), self._as)

    @property
    def profile(self) -> Path:
        """The first administrator's profile."""
        return self.people.profile(ADMINISTRATOR)

    def prepare(self) -> None:
        """Make what the site is made of: node image, simulated library, model, bundle. All from caches if unchanged."""
        with ThreadPoolExecutor() as pool:
            image = pool.submit(build_image)
            fetched = pool.submit(bundle.fetch, self._redoubt_here)
            pool.submit(build_library).result()
            self._run(BIN / "python", PRACTICE / "tiny_model.py", self._models)
            lock = bundle.fit(self._redoubt_here, fetched.result(), image.result())
        bundle.build(self._redoubt_here, lock, self._models, self.bundle)

    def boot(self) -> bool:
        """Bring the nodes up; tell whether anything had to be done."""
        return self.lab.up([Node(node["name"], IPv4Address(node["address"])) for node in self._site["nodes"]])

    def install(self, *more: str) -> int:
        """Run the playbooks where stages are due; return how many tasks changed something."""
        self._redoubt_here("site", "render", self.spec, "--bundle", self.bundle, "--rendered", self.rendered)
        return int(json.loads(self._redoubt_here(*self._apply_words("apply"), *more))["changed"])

    def plan(self) -> int:
        """Run the playbooks in check mode; return how many tasks would change something."""
        return int(json.loads(self._redoubt_here(*self._apply_words("plan")))["changed"])

    def plan_json(self, *more: str) -> Any:
        """Plan, and return all of it."""
        return json.loads(self._redoubt_here(*self._apply_words("plan"), *more))

    def runs(self) -> Any:
        """Return the record of every apply."""
        return json.loads(self._redoubt_here("site", "runs", self.spec, "--rendered", self.rendered, "--json"))

    def start_install(self, *more: str) -> subprocess.Popen[str]:
        """Start the playbooks and return at once, for tests of interruptions."""
        command = [str(word) for word in (BIN / "redoubt", *self._apply_words("apply"), *more)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, cwd=REPOSITORY, **pipes)

    def try_install(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Run the playbooks and return how that ended, for tests of failures."""
        command = [str(word) for word in (BIN / "redoubt", *self._apply_words("apply"), *more)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)

    def deploy(self) -> None:
        """Enrol, declare the nodes, register the model, and bring one endpoint up."""
        self._enrol()
        self.inference_key()  # first, because gateways learn of a key within a second and not at once
        self.redoubt("node", "declare", self.spec)
        self._wait_for_gpus()
        self.redoubt("model", "register", self._models / f"{MODEL}.json")
        if ENDPOINT not in {endpoint["name"] for endpoint in self.redoubt_json("endpoint", "list")}:
            self.redoubt("endpoint", "create", ENDPOINT, "--model", MODEL, "--zone", self._site["zones"][0]["name"])
        self.redoubt("endpoint", "scale", ENDPOINT, "1", "--wait", READY_WITHIN_S)
        if not wait_until(self.answers, timeout_s=15, pause_s=0.5):
            raise LabError("the endpoint is ready and the gateway gives no answer; its words are above")

    def ask(self, question: str = QUESTION) -> Answer:
        """Ask the endpoint through the gateway, from inside the boundary."""
        done = self.redoubt_json("ask", ENDPOINT, question, "--key", self.inference_key(), "--max-tokens", "24")
        return Answer(self.api, self.gateway, str(done["answer"]).strip())

    def answers(self) -> bool:
        """Say whether the gateway gives an answer now."""
        try:
            return bool(self.ask().text)
        except LabError:
            return False

    def inference_key(self) -> str:
        """Return the practice application's key, making it the first time."""
        kept = self.lab.home / "inference.key"
        if not kept.exists():
            secret = self.redoubt_json("key", "create", "practice application")["secret"]
            kept.touch(mode=0o600)
            kept.write_text(secret)
        return kept.read_text()

    def gpu(self, node: str, *words: object) -> str:
        """Do `redoubt practice gpu …` to a node's simulated GPUs: its state file is fetched, edited and put back."""
        with tempfile.TemporaryDirectory() as folder:
            state = Path(folder) / "nvml.state"
            state.write_text(self.lab.ssh(node, f"cat {GPU_STATE}").stdout)
            said = self._redoubt_here("practice", "gpu", *words, "--state", state)
            self.lab.ssh(node, f"cat > {GPU_STATE}.new && mv {GPU_STATE}.new {GPU_STATE}", stdin=state.read_text())
        return said

    def redoubt(self, *words: object, who: str = ADMINISTRATOR) -> str:
        """Run the CLI inside the boundary as one of the two administrators, who signs in again when need be."""
        self.people.stay_signed_in(who)
        return self._as(self.people.profile(who), *words)

    def _as(self, profile: Path, *words: object) -> str:
        return self._run("env", f"REDOUBT_PROFILE={profile}", BIN / "redoubt", *words, inside=True)

    def redoubt_json(self, *words: object, who: str = ADMINISTRATOR) -> Any:
        """Run the CLI with --json and read what it says."""
        return json.loads(self.redoubt(*words, "--json", who=who))

    def _apply_words(self, verb: str) -> tuple[object, ...]:
        reach = ("--ssh-config", self.lab.ssh_config, "--netns", namespace(self.lab.name))
        assets = ("--practice-assets", build_library().parent)
        return (
            "site",
            verb,
            self.spec,
            "--bundle",
            self.bundle,
            "--rendered",
            self.rendered,
            *reach,
            *assets,
            "--json",
        )

    @property
    def _models(self) -> Path:
        return cache() / "practice" / "models"

    def _address(self, service: str) -> str:
        named = self._site["services"][service]
        host = named[0] if isinstance(named, list) else named
        return next(str(node["address"]) for node in self._site["nodes"] if node["name"] == host)

    def _enrol(self) -> None:
        if not self.ca.exists():
            control_plane = self._site["services"]["control_plane"]
            self.ca.write_text(self.lab.ssh(control_plane, "cat /etc/redoubt/tls/ca.crt").stdout)
        self.people.enrol(self._console_code)

    def _console_code(self) -> str:
        return self.lab.ssh(self._site["services"]["control_plane"], ENROL_CODE).stdout.strip()

    def _wait_for_gpus(self) -> None:
        """Wait until every declared GPU is reported: agents need a few seconds after the site is up."""
        declared = {node["name"] for node in self._site["nodes"] if node.get("gpus")}

        def ready() -> bool:
            return declared <= {node["name"] for node in self.redoubt_json("node", "list") if node["state"] == "ready"}

        if not wait_until(ready, timeout_s=30, pause_s=0.5):
            raise LabError(f"not every GPU node is ready:\n{self.redoubt('fleet')}")

    def _redoubt_here(self, *words: object) -> str:
        return self._run(BIN / "redoubt", *words)

    def _run(self, *words: object, inside: bool = False) -> str:
        prefix = self.lab.enter if inside else ()
        command = [*prefix, *(str(word) for word in words)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False, cwd=REPOSITORY
        )
        if done.returncode:
            raise LabError(
                f"`{' '.join(str(w) for w in words[:3])} …` failed with {done.returncode}; its words are above"
            )
        return done.stdout
