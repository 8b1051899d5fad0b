"""Progress of a site run: one line a stage, one message a failure, and a record for `redoubt site apply`."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: redoubt
type: stdout
short_description: One line a stage, one message a failure
description:
  - Writes what happened as JSON to the file that the variable REDOUBT_RUN_RECORD names, anew after every stage.
  - Reads from the file that REDOUBT_RUN_EXPECTED names how many seconds each stage is expected to take.
options: {}
"""

Json = dict[str, Any]  # results of modules have no narrower type
RESTARTING = {"restarted": "", "reloaded": " (reload)"}


class CallbackModule(CallbackBase):
    """Collects what each stage changed, and what went wrong where."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "redoubt"

    def __init__(self) -> None:
        super().__init__()
        self._stage = ""
        self._stage_started = self._started = time.monotonic()
        self._seen = 0
        self._skipped: list[str] = []
        self._told: dict[tuple[str, str], list[str]] = {}
        self._expected: dict[str, float] = _read(os.environ.get("REDOUBT_RUN_EXPECTED"))
        self._record: Json = {
            "hosts": {}, "stages": [], "changes": [], "failures": [], "due": [], "restarts": [], "facts": {},
            "states": {}, "drains": [], "tasks": 0, "seconds": 0.0, "stage": "", "finished": False,
        }  # fmt: skip

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Close the stage before and open the next."""
        name = play.get_name().strip()
        if name != self._stage:
            self._close_stage()
            self._stage, self._stage_started, self._seen = name, time.monotonic(), 0
            self._write(stage=name)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Remember what changed, what restarts, and what a node said of itself."""
        found, host = result.result, self._host(result)
        self._count()
        if found.get("changed"):
            change = {"host": host, "stage": self._stage, "task": self._task(result)}
            self._record["changes"].append(change)
            self._record["restarts"] += [
                {"host": host, "stage": self._stage, "unit": unit} for unit in _restarts(found)
            ]
            self._record["states"].setdefault(host, {}).update(_states(found))
            if found.get("drains"):
                self._record["drains"].append({"host": host, "why": found["drains"]})
        if "node" in found.get("ansible_facts", {}):
            self._record["facts"][host] = found["ansible_facts"]["node"]
        for one in found.get("results", []):
            if isinstance(one.get("item"), dict) and "why" in one["item"]:
                self._record["due"].append({"host": host, **one["item"]})
                self._told.setdefault((one["item"]["stage"], one["item"]["why"]), []).append(host)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Count a task that was looked at and not done."""
        del result
        self._count()

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: FBT001, FBT002  # Ansible's signature
        """Say what failed, in the words of the module."""
        self._count()
        if not ignore_errors:
            self._fail("failed", result, _words(result.result))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Say which node does not answer."""
        cause = str(result.result.get("msg", "")).rpartition("ssh: ")[2].strip()
        self._fail("unreachable", result, f"the node does not answer over SSH: {cause or 'no reason given'}")

    def v2_on_file_diff(self, result: Any) -> None:
        """Show what would be or was written, where a plan asks for it."""
        found = result.result.get("results", [result.result])
        for diff in (one.get("diff") for one in found if one.get("diff") and one.get("changed")):
            text = self._get_diff(diff)
            if text:
                self._display.display(f"{self._host(result)}: {self._task(result)}\n{text}")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Close the last stage and write the record."""
        self._close_stage()
        hosts = {host: self._tally(stats.summarize(host)) for host in sorted(stats.processed) if host != "localhost"}
        if self._skipped:
            self._display.display(f"as it was, not evaluated: {', '.join(self._skipped)}")
            self._skipped = []  # there is one end for each playbook
        self._write(hosts=hosts, finished=True)

    def _count(self) -> None:
        self._seen += 1
        self._record["tasks"] += 1

    def _close_stage(self) -> None:
        if not self._stage:
            return
        stages, failures = self._record["stages"], self._record["failures"]
        seconds = round(time.monotonic() - self._stage_started, 1)
        if failures and failures[0]["stage"] != self._stage:
            return  # Ansible walks through the stages after a failure without running them
        changed = sum(1 for change in self._record["changes"] if change["stage"] == self._stage)
        stages.append({"name": self._stage, "seconds": seconds, "changed": changed, "ran": bool(self._seen)})
        if self._seen:
            self._display.display(f"{self._stage:<24} {seconds:6.1f} s   changed={changed:<4}{self._outlook()}")
        else:
            self._skipped.append(self._stage)
        self._tell_what_is_due()
        self._stage = ""
        self._write()

    def _tell_what_is_due(self) -> None:
        """Say why stages are evaluated that once were finished, unless somebody asked for it."""
        for (stage, why), hosts in self._told.items():
            if why not in ("asked for", "run by hand", "it was not finished here"):
                self._display.display(f"due: {stage} on {', '.join(hosts)}: {why}")
        self._told = {}

    def _outlook(self) -> str:
        """Say how far the run is, and how long the rest took last time."""
        if not self._expected:
            return ""
        done = {stage["name"] for stage in self._record["stages"]}
        left = sum(seconds for name, seconds in self._expected.items() if name not in done)
        number = f"stage {len(done & self._expected.keys())} of {len(self._expected)}"
        return f" {number}, about {left:.0f} s left" if left >= 1 else f" {number}"

    def _fail(self, kind: str, result: Any, cause: str) -> None:
        failure = {
            "kind": kind,
            "host": self._host(result),
            "stage": self._stage,
            "task": self._task(result),
            "cause": cause,
        }
        if failure not in self._record["failures"]:
            self._record["failures"].append(failure)
            self._display.display(f"{failure['host']}: {failure['task']}: {cause}")

    def _write(self, **more: Any) -> None:
        """Write the record whole: a run may be killed at any time."""
        self._record |= {**more, "seconds": round(time.monotonic() - self._started, 1)}
        place = os.environ.get("REDOUBT_RUN_RECORD")
        if place:
            fresh = Path(f"{place}.new")
            fresh.write_text(json.dumps(self._record), encoding="utf-8")
            fresh.rename(place)

    def _tally(self, summary: Json) -> Json:
        return {
            "ok": summary["ok"],
            "changed": summary["changed"],
            "failed": summary["failures"] + summary["unreachable"],
        }

    def _host(self, result: Any) -> str:
        return str(result.host.get_name())

    def _task(self, result: Any) -> str:
        return str(result.task.get_name())


def _read(place: str | None) -> dict[str, float]:
    return json.loads(Path(place).read_text(encoding="utf-8")) if place else {}


def _restarts(found: Json) -> list[str]:
    """Return the units that a result restarts or reloads: our modules say so, systemd's is asked for its arguments."""
    said = [str(unit) for unit in found.get("restarts", [])]
    for one in found.get("results", [found]):
        asked = one.get("invocation", {}).get("module_args", {})
        if one.get("changed") and asked.get("state") in RESTARTING and asked.get("name"):
            said.append(f"{asked['name']}{RESTARTING[asked['state']]}")
    return said


def _states(found: Json) -> dict[str, str]:
    """Return the digest of what stood, by path, where a result would replace it; empty where nothing stood."""
    diffs = found.get("diff") if isinstance(found.get("diff"), list) else [found.get("diff") or {}]
    named = [diff for diff in diffs or [] if str(diff.get("before_header", "")).startswith("/")]
    return {
        diff["before_header"]: hashlib.sha256(diff["before"].encode()).hexdigest() if diff.get("before") else ""
        for diff in named
    }


def _words(result: Json) -> str:
    """Return the cause in one line: of the item that failed, else of the task."""
    failed = next((item for item in result.get("results", []) if item.get("failed")), result)
    message = str(failed.get("msg", "")).strip()
    said = str(failed.get("stderr") or failed.get("module_stderr") or failed.get("stdout") or "").strip()
    return " / ".join(part for part in (message, " / ".join(said.splitlines()[-3:])) if part) or "no reason given"
