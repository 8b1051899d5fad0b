"""Who on this node could try to leave: root, every service user, a Slurm job, every inference replica.

Each context runs in a process of its own, which first becomes what it stands for: user, groups, control group, network.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attempts

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]  # plans and results are plain JSON

ALWAYS = ("_apt", "nobody")
CLONE_NEWNET = 0x40000000
LONGEST_RESULT = 1_000_000
PROC, CGROUPS, STATE = Path("/proc"), Path("/sys/fs/cgroup"), Path("/var/lib/redoubt-proof")


@dataclass(frozen=True)
class Context:
    """`pid` is a process whose control group and network are joined, 0 for none; `variables` names its environment."""

    name: str
    kind: str
    uid: int
    pid: int = 0
    variables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Process:
    """One process of this node."""

    pid: int
    uid: int
    command: str
    variables: tuple[str, ...]
    job: str


def find(accounts: list[str], replica_commands: list[str]) -> list[Context]:
    """Return every context of this node but the Slurm job, root first."""
    running = [one for one in _processes() if one.pid != os.getpid()]
    users = {0: "root", **{_uid(name): name for name in ALWAYS if _uid(name)}}
    users |= {one.uid: _name(one.uid) for one in running}
    users |= {_uid(name): name for name in accounts if _uid(name)}
    found = [_of_user(uid, name, running) for uid, name in sorted(users.items())]
    replicas = [one for one in running if any(command in one.command for command in replica_commands)]
    return found + [
        Context(f"replica {one.job[-8:] or 'alone'} {one.pid}", "replica", one.uid, one.pid, one.variables)
        for one in replicas
    ]


def run_all(contexts: list[Context], plan: Json, within_s: float) -> list[Json]:
    """Run every context at once; one that does not end in time, or cannot be entered, is told as an error."""
    started = [(context, *_start(context, plan)) for context in contexts]
    deadline = time.monotonic() + within_s
    return [{**_who(context), **_collect(pid, pipe, deadline)} for context, pid, pipe in started]


@dataclass(frozen=True)
class Job:
    """A Slurm job that tries; `number` is empty where it was not taken, and then `error` says why."""

    context: Context
    folder: Path
    number: str
    error: str = ""

    def result(self, within_s: float) -> Json:
        """Wait for what it found, and leave nothing behind."""
        deadline, path = time.monotonic() + within_s, self.folder / "result"
        while self.number and not path.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        text = _plain_text(path)
        if self.number and not text:
            subprocess.run(["scancel", self.number], capture_output=True, timeout=10, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        late = self.error or f"Slurm did not run job {self.number} within {within_s:.0f} s: is there room on this node?"
        return {**_who(self.context), **_checked(text, self.context.uid, late)}


def start_job(job: Json, plan: Json) -> Job:
    """Submit the attempts as a job on this node. Root submits, for the boundary lets nobody else speak to Slurm."""
    account = pwd.getpwnam(job["user"])
    STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="job-", dir=STATE))
    os.chown(folder, account.pw_uid, account.pw_gid)
    who = [f"--uid={account.pw_uid}", f"--gid={account.pw_gid}", f"--account={job['account']}", f"--qos={job['qos']}"]
    where = [f"--partition={job['partition']}", f"--nodelist={job['node']}", "--ntasks=1", "--mem=128", "--time=1"]
    out = [f"--chdir={folder}", "--output=/dev/null", "--export=NIL", "--job-name=redoubt-proof", "--parsable"]
    context = Context("slurm job", "job", account.pw_uid)
    try:
        done = subprocess.run(
            ["sbatch", *who, *where, *out], input=_script(plan), env=_as_user(job["user"]), capture_output=True,
            text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as wrong:
        return Job(context, folder, "", f"{type(wrong).__name__}: {wrong}"[:300])
    return Job(context, folder, done.stdout.strip(), done.stderr.strip()[-300:])


def _as_user(name: str) -> dict[str, str]:
    """Return an environment in which Slurm takes root for that user: with --uid alone the job would run as root."""
    words = ["scontrol", "token", f"username={name}", "lifespan=60"]
    token = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return {"PATH": os.environ.get("PATH", os.defpath), "SLURM_JWT": token.partition("=")[2]}


def _script(plan: Json) -> str:
    """Return a batch script; its result appears whole or not at all."""
    task = shlex.join([sys.executable, str(Path(attempts.__file__).resolve())])
    return f"#!/bin/sh\n{task} > part <<'PLAN' && mv part result\n{json.dumps(plan)}\nPLAN\n"


def _plain_text(path: Path) -> str:
    """Read what another user wrote; a link is nothing that a job leaves there."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, errors="replace") as file:
            return file.read(LONGEST_RESULT)
    return ""


def _start(context: Context, plan: Json) -> tuple[int, int]:
    """Start one context; return its process and where its result comes."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.close(reader)
    try:
        _become(context)
        text = json.dumps(attempts.run({**plan, "variables": list(context.variables)}))
    except BaseException as wrong:  # noqa: BLE001 - whatever went wrong in the child is its result, never a traceback
        text = json.dumps({"error": f"{type(wrong).__name__}: {wrong}"})
    with suppress(OSError), os.fdopen(writer, "w") as out:
        out.write(text)
    os._exit(0)


def _become(context: Context) -> None:
    """Take the control group and the network of a process, then the user; the order cannot be another."""
    if context.pid:
        _join(context.pid)
    if context.uid == 0:
        return
    try:
        account = pwd.getpwuid(context.uid)
        os.initgroups(account.pw_name, account.pw_gid)
        group = account.pw_gid
    except KeyError:
        os.setgroups([])
        group = context.uid
    os.setresgid(group, group, group)
    os.setresuid(context.uid, context.uid, context.uid)


def _join(pid: int) -> None:
    path = next(
        line.removeprefix("0::") for line in _read(PROC / f"{pid}/cgroup").splitlines() if line.startswith("0::")
    )
    (CGROUPS / path.lstrip("/") / "cgroup.procs").write_text("0")
    here, there = ((PROC / f"{who}/ns/net").readlink() for who in ("self", pid))
    if here != there:
        handle = os.open(PROC / f"{pid}/ns/net", os.O_RDONLY)
        os.setns(handle, CLONE_NEWNET)
        os.close(handle)


def _collect(pid: int, pipe: int, deadline: float) -> Json:
    chunks: list[bytes] = []
    while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(pipe, 65536)
        if not chunk:
            break
        chunks.append(chunk)
    else:
        os.kill(pid, 9)
    os.close(pipe)
    os.waitpid(pid, 0)
    return _checked(b"".join(chunks).decode(errors="replace"), None, "it did not end in time")


def _checked(text: str, uid: int | None, otherwise: str) -> Json:
    """Return a result that is whole and of the right user, or why there is none."""
    try:
        found: Json = json.loads(text)
    except ValueError:
        return _error(otherwise or "no result")
    if "error" in found:
        return _error(found["error"])
    ran_as = found.pop("uid")
    if uid is not None and ran_as != uid:
        return _error(f"ran as uid {ran_as} instead of {uid}")
    return {**found, "error": ""}


def _error(why: str) -> Json:
    return {"control": {}, "attempts": [], "anomalies": [], "error": why or "no reason given"}


def _who(context: Context) -> Json:
    return {"name": context.name, "kind": context.kind, "uid": context.uid}


def _of_user(uid: int, name: str, running: list[Process]) -> Context:
    own = [one for one in running if one.uid == uid]
    variables = tuple(sorted({variable for one in own for variable in one.variables}))
    if uid == 0:
        return Context("root", "root", 0, 0, variables)
    return Context(f"user {name}", "service", uid, own[0].pid if own else 0, variables)


def _processes() -> Iterator[Process]:
    """Yield the processes of this node; kernel threads and what ended meanwhile are no processes."""
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        with suppress(OSError):
            command = _read(folder / "cmdline").replace("\0", " ")
            if command:
                environment = dict(entry.partition("=")[::2] for entry in _read(folder / "environ").split("\0"))
                uid = int(next(line.split()[1] for line in _read(folder / "status").splitlines() if line[:4] == "Uid:"))
                job = environment.get("SLURM_JOB_NAME", "")
                yield Process(int(folder.name), uid, command, tuple(sorted(filter(None, environment))), job)


def _read(path: Path) -> str:
    return path.read_text(errors="replace")


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return 0


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
