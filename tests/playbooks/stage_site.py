"""A site of one machine, this one, with two tiny roles: the real stamps, filter and first play around them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any  # variables of playbooks have no narrower type

import yaml

from controlplane.cli.stages import read_stages, wanted_on

REAL = Path("playbooks").resolve()
ON_NODES = "/var/lib/redoubt-stages"
PLAY = """
- name: {title}
  hosts: role_{name}:&due_{name}
  module_defaults:
    files_written:
      stage: {name}
  tasks:
    - name: The role
      ansible.builtin.import_role:
        name: {name}
  post_tasks:
    - name: Stamp
      ansible.builtin.import_tasks: tasks/stamp.yml
      vars:
        stage_name: {name}
"""
TASKS = """
- name: Count how often this role is evaluated
  ansible.builtin.shell:
    cmd: echo {name} >> {home}/evaluated
- name: Write
  files_written:
    files:
      - path: {home}/{name}.conf
        content: "{{{{ {name}_text }}}}"
        owner: "{owner}"
        group: "{group}"
  notify: Restart
- name: Wait while somebody pulls the plug
  ansible.builtin.shell:
    cmd: "if test -e {home}/hang; then touch {home}/hanging; sleep 60; fi"
"""
HANDLER = """
- name: Restart
  ansible.builtin.shell:
    cmd: echo {name} >> {home}/restarted
"""


class StageSite:
    """Makes the tree, runs it, and tells what was evaluated and restarted."""

    def __init__(self, home: Path) -> None:
        self.home, self.playbooks = home, home / "playbooks"
        self.inputs: dict[str, Any] = {"first_text": "one", "second_text": "two"}
        self.bundle = "b" * 64
        for name in ("library", "module_utils", "filter", "tasks"):
            shutil.copytree(REAL / name, self.playbooks / name)
        stamps = self.playbooks / "module_utils/stage_stamps.py"
        stamps.write_text(stamps.read_text().replace(ON_NODES, str(home / "stamps")))
        plays = yaml.safe_load((REAL / "preflight.yml").read_text())
        about_stages = [play for play in plays if play["name"] == "Preflight of the nodes"]
        (self.playbooks / "preflight.yml").write_text(yaml.safe_dump(about_stages, sort_keys=False))
        for name in ("first", "second"):
            self._role(name)
        imports = [{"ansible.builtin.import_playbook": f"{name}.yml"} for name in ("preflight", "first", "second")]
        (self.playbooks / "site.yml").write_text(yaml.safe_dump(imports))

    def run(self, *, forced: tuple[str, ...] = ()) -> list[str]:
        """Run the site to its end; return the roles that were evaluated."""
        done = self._start(forced)
        output, _ = done.communicate(timeout=120)
        assert done.returncode == 0, output
        return self._taken("evaluated")

    def run_and_pull_the_plug(self) -> list[str]:
        """Run the site, kill Ansible with all it started while a role hangs; return the roles that were evaluated."""
        (self.home / "hang").touch()
        running = self._start(())
        while not (self.home / "hanging").exists():
            assert running.poll() is None, running.communicate()
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        (self.home / "hang").unlink()
        (self.home / "hanging").unlink()
        return self._taken("evaluated")

    def restarted(self) -> list[str]:
        """Return what was restarted since somebody asked."""
        return self._taken("restarted")

    def _taken(self, name: str) -> list[str]:
        path = self.home / name
        lines = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def _start(self, forced: tuple[str, ...]) -> subprocess.Popen[str]:
        stages = read_stages(self.playbooks)
        wanted = wanted_on("here", stages, self.inputs, {}, self.bundle, self.playbooks)
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **self.inputs}
        groups: dict[str, Any] = {name: {"hosts": {"here": {}}} for name in ("nodes", "role_first", "role_second")}
        groups |= {f"due_{stage.name}": {} for stage in stages}
        inventory = {"all": {"hosts": {"here": {**here, "stages_wanted": wanted}}, "children": groups}}
        (self.home / "hosts.json").write_text(json.dumps(inventory))
        given = json.dumps({"stages_forced": forced})
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.home / "hosts.json")]
        settings = {
            "ANSIBLE_CONFIG": str(REAL.parent / "ansible.cfg"),
            "ANSIBLE_LIBRARY": str(self.playbooks / "library"),
            "ANSIBLE_MODULE_UTILS": str(self.playbooks / "module_utils"),
            "ANSIBLE_FILTER_PLUGINS": str(self.playbooks / "filter"),
            "ANSIBLE_ROLES_PATH": str(self.playbooks / "roles"),
        }
        return subprocess.Popen(
            [*command, "-e", given, str(self.playbooks / "site.yml")],
            env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )  # fmt: skip

    def _role(self, name: str) -> None:
        role, words = self.playbooks / "roles" / name, {"name": name, "home": self.home, "title": name.title()}
        owner = {"owner": str(os.getuid()), "group": str(os.getgid())}
        parts = {"tasks/main.yml": TASKS.format(**words, **owner), "handlers/main.yml": HANDLER.format(**words)}
        parts["meta/stamp.yml"] = f"bundle: {str(name == 'second').lower()}\nfiles: [{self.home}/{name}.conf]\n"
        for path, text in parts.items():
            (role / path).parent.mkdir(parents=True, exist_ok=True)
            (role / path).write_text(text)
        (self.playbooks / f"{name}.yml").write_text(PLAY.format(**words))
