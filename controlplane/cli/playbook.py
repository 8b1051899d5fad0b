"""Run playbooks in a process of their own: progress on standard error, a record of what happened as the result."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # variables of playbooks have no narrower type

from controlplane.cli.run_record import RunRecord
from controlplane.kit.errors import RedoubtError, Refused, Unavailable

STANDARD_ERROR = 2  # the descriptor: progress goes there even where sys.stderr is captured
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Reach:
    """How the nodes are reached: an ssh_config of their own, their network namespace, and whether one stops all."""

    ssh_config: Path | None = None
    netns: str | None = None
    keep_going: bool = False


def run_playbooks(
    names: Sequence[str],
    inventory: Path,
    inputs: Mapping[str, Any],
    reach: Reach,
    *,
    check: bool,
    added: Mapping[str, Any] | None = None,
    expected: Mapping[str, float] | None = None,
    words: Sequence[str] = (),
    open_files: Sequence[int] = (),
) -> RunRecord:
    """Run playbooks against an inventory, and what is `added` to it; raises Unavailable when Ansible cannot run.

    `expected` are seconds by stage, for the progress; `words` are further words for ansible-playbook, and
    `open_files` descriptors that it keeps open as long as it runs.
    """
    with tempfile.TemporaryDirectory(prefix="redoubt-run-") as scratch:
        place = Path(scratch)
        (place / "added.json").write_text(json.dumps(added or {}))
        (place / "expected.json").write_text(json.dumps(expected or {}))
        sources = ["--inventory", str(inventory), *(["--inventory", f"{scratch}/added.json"] if added else [])]
        # One file: Ansible stops between files when a single node was silent, also where the others are to go on.
        (place / "run.yml").write_text(json.dumps([_imported(name) for name in names]))
        how = ["--check"] if check else []
        what = ["--extra-vars", json.dumps(inputs), str(place / "run.yml")]
        code = _run([*_prefix(reach, place), *sources, *how, *words, *what], place / "record.json", open_files)
        _hang_up(place)
        if not (place / "record.json").is_file():
            raise Unavailable(f"Ansible ended with {code} before the first stage", remedy="see its words above")
        found = RunRecord.model_validate_json((place / "record.json").read_bytes())
    if code and not found.failures:
        raise Unavailable(f"Ansible ended with {code}", remedy="see its words above")
    return found


def _imported(name: str) -> dict[str, str]:
    return {"name": name, "ansible.builtin.import_playbook": str(REPOSITORY / "playbooks" / f"{name}.yml")}


def _run(command: list[str], record: Path, open_files: Sequence[int]) -> int:
    """Run Ansible to its end. Who is told to stop tells Ansible first, and then says where that was."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    running = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=STANDARD_ERROR, start_new_session=True, pass_fds=tuple(open_files)
    )
    try:
        return running.wait()
    except KeyboardInterrupt:
        _stop(running)
        raise _stopped(record) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(running: subprocess.Popen[bytes]) -> None:
    """End Ansible and what it started here; tasks that run on nodes come to their own end."""
    for told, within_s in ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(running.pid, told)
        with suppress(subprocess.TimeoutExpired):
            running.wait(within_s)
            return


def _stopped(record: Path) -> RedoubtError:
    found = RunRecord.model_validate_json(record.read_bytes()) if record.is_file() else None
    where = f"in stage {found.stage}" if found else "before the first stage"
    return Unavailable(
        f"stopped {where}; stages before it are finished, and it is unfinished on every node",
        remedy="the same command goes on there",
        code="stopped",
        reasons=tuple(f"changed: {change.host}: {change.task}" for change in found.changes) if found else (),
    )


def failed_run(record: RunRecord, *, again: str) -> RedoubtError:
    """Return the error that says why a run failed and what to do."""
    first = record.failures[0]
    silent = [failure.host for failure in record.failures if failure.kind == "unreachable"]
    told = dict.fromkeys(f"{failure.host}: {failure.task}: {failure.cause}" for failure in record.failures)
    reasons = tuple(told) if len(told) > 1 else ()
    if silent:
        names = ", ".join(sorted(set(silent)))
        remedy = f"power on {names}, check cable and address in site.yml; then repeat: {again}"
        return Unavailable(f"{first.stage}: {names}: {first.cause}", remedy=remedy, code="node_silent", reasons=reasons)
    if "Render it anew: " in first.cause:
        fact, _, command = first.cause.partition(" Render it anew: ")
        return Refused(fact, remedy=f"{command}; then repeat: {again}", code="stale_inventory")
    if first.cause.startswith("preflight: "):
        fact, _, remedy = first.cause.partition(" First: ")
        code = "stale_inventory" if "input.digest on" in fact else "preflight_blocks"
        return Refused(fact, remedy=f"{remedy}; then repeat: {again}", code=code)
    detail = f"{first.stage} failed on {first.host}: {first.task}: {first.cause}"
    return Unavailable(detail, remedy=f"correct the cause, then repeat: {again}", code="stage_failed", reasons=reasons)


def _hang_up(scratch: Path) -> None:
    """End the shared connections now: a master that outlives the run would hold on to the nodes' network."""
    for socket in (path for path in scratch.iterdir() if path.is_socket()):
        command = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "every-node"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _prefix(reach: Reach, scratch: Path) -> list[str]:
    enter = ["nsenter", f"--net=/run/netns/{reach.netns}"] if reach.netns else []
    settings = {
        "ANSIBLE_CONFIG": REPOSITORY / "ansible.cfg",
        "ANSIBLE_STDOUT_CALLBACK": "redoubt",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": scratch,  # sites on one machine share addresses, so no socket may be shared
        "REDOUBT_RUN_RECORD": scratch / "record.json",
        "REDOUBT_RUN_EXPECTED": scratch / "expected.json",
        "ANSIBLE_ANY_ERRORS_FATAL": str(not reach.keep_going),
        "LC_ALL": "C.UTF-8",
    }
    ssh = f"-F {reach.ssh_config} " if reach.ssh_config else ""
    settings["ANSIBLE_SSH_ARGS"] = f"{ssh}-o ControlMaster=auto -o ControlPersist=60s"
    words = [f"{name}={value}" for name, value in settings.items()]
    return [*enter, "env", *words, str(Path(sys.executable).parent / "ansible-playbook")]
