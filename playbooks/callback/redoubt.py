"""Progress of a site run: one line a stage, one message a failure, and a record for `redoubt site apply`."""

from __future__ import annotations

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
  - Writes what happened as JSON to the file that the variable REDOUBT_RUN_RECORD names.
options: {}
"""

Json = dict[str, Any]  # results of modules have no narrower type


class CallbackModule(CallbackBase):
    """Collects what each stage changed, and what went wrong where."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "redoubt"

    def __init__(self) -> None:
        super().__init__()
        self._stage = ""
        self._stage_started = self._started = time.monotonic()
        self._stages: list[Json] = []
        self._changes: list[Json] = []
        self._failures: list[Json] = []

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Close the stage before and open the next."""
        name = play.get_name().strip()
        if name != self._stage:
            self._close_stage()
            self._stage, self._stage_started = name, time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Remember what changed."""
        if result.result.get("changed"):
            self._changes.append({"host": self._host(result), "stage": self._stage, "task": self._task(result)})

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: FBT001, FBT002  # Ansible's signature
        """Say what failed, in the words of the module."""
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
        record = {
            "hosts": hosts,
            "stages": self._stages,
            "changes": self._changes,
            "failures": self._failures,
            "seconds": round(time.monotonic() - self._started, 1),
        }
        place = os.environ.get("REDOUBT_RUN_RECORD")
        if place:
            Path(place).write_text(json.dumps(record), encoding="utf-8")

    def _close_stage(self) -> None:
        if not self._stage:
            return
        seconds = round(time.monotonic() - self._stage_started, 1)
        if self._failures and self._failures[0]["stage"] != self._stage:
            return  # Ansible walks through the stages after a failure without running them
        changed = sum(1 for change in self._changes if change["stage"] == self._stage)
        self._stages.append({"name": self._stage, "seconds": seconds, "changed": changed})
        self._display.display(f"{self._stage:<24} {seconds:6.1f} s   changed={changed}")
        self._stage = ""

    def _fail(self, kind: str, result: Any, cause: str) -> None:
        failure = {
            "kind": kind,
            "host": self._host(result),
            "stage": self._stage,
            "task": self._task(result),
            "cause": cause,
        }
        if failure not in self._failures:
            self._failures.append(failure)
            self._display.display(f"{failure['host']}: {failure['task']}: {cause}")

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


def _words(result: Json) -> str:
    """Return the cause in one line: of the item that failed, else of the task."""
    failed = next((item for item in result.get("results", []) if item.get("failed")), result)
    message = str(failed.get("msg", "")).strip()
    said = str(failed.get("stderr") or failed.get("module_stderr") or failed.get("stdout") or "").strip()
    return " / ".join(part for part in (message, " / ".join(said.splitlines()[-3:])) if part) or "no reason given"
