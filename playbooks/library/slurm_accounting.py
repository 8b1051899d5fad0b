"""Bring Slurm's accounting database to one declared state, and prove that it stayed there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any  # parameters are free-form YAML

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: slurm_accounting
short_description: What a cluster's accounting begins with, in one call
description:
  - Adds what is missing, then reads everything back. What a class of work is once it exists is not for this module to
    say; accounts and users are corrected where they lack what is asked, and keep what they have beyond it.
  - slurmdbd accepts changes right after its start and loses some of them, so the module repeats until what it reads
    is what was asked.
options:
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  qos:
    description: Classes of work, each after those that it preempts.
    type: list
    elements: dict
    required: true
  accounts:
    description: Accounts, each after its parent, with the classes that they may use beside their parent's.
    type: list
    elements: dict
    required: true
  users:
    description: Users, each with one account, the classes it may use, the one it uses by default, and its level.
    type: list
    elements: dict
    required: true
  timeout_s:
    description: How long to go on trying.
    type: int
    default: 60
author: Redoubt
"""

Words = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One thing the database must hold: how to read it, what each column must have, how to make it so."""

    name: str
    read: list[str]
    wanted: list[set[str]]
    make: list[list[str]]


def entries(params: Words) -> list[Entry]:
    """List what must hold, in the order it can be made."""
    cluster = params["cluster"]
    return [
        Entry(
            name=f"cluster {cluster}",
            read=["list", "cluster", cluster, "format=cluster"],
            wanted=[{cluster}],
            make=[["add", "cluster", cluster]],
        ),
        *(_qos(qos) for qos in params["qos"]),
        *(_account(account, f"cluster={cluster}") for account in params["accounts"]),
        *(entry for user in params["users"] for entry in _user(user, f"cluster={cluster}")),
    ]


def _qos(qos: Words) -> Entry:
    name = qos["name"]
    settings = [f"Priority={qos['priority']}", f"UsageFactor={qos['usage']}", f"GraceTime={qos['grace_s']}"]
    preempts = [f"Preempt={','.join(qos['preempts'])}"] if qos["preempts"] else []
    make = ["add", "qos", name, "set", *settings, f"PreemptMode={qos['mode']}", "Flags=DenyOnLimit", *preempts]
    return Entry(f"class {name}", ["list", "qos", name, "format=name"], [{name}], [make])


def _account(account: Words, cluster: str) -> Entry:
    name, parent, qos = account["name"], account["parent"], account["qos"]
    parents = [f"parent={parent}"] if parent else []
    settings = [*parents, *([f"QOS+={','.join(qos)}"] if qos else [])]
    modify = ["modify", "account", "where", f"name={name}", cluster, "set"]
    return Entry(
        name=f"account {name}",
        read=["list", "assoc", cluster, f"account={name}", "format=account,parentname,qos"],
        wanted=[{name}, {parent} - {""}, set(qos)],
        make=[
            ["add", "account", name, cluster, *parents, "Description=redoubt", "Organization=redoubt"],
            *([*modify, setting] for setting in settings),  # one by one: what is so already fails the whole call
        ],
    )


def _user(user: Words, cluster: str) -> list[Entry]:
    """Return where a user belongs, and apart from it what it may do, which is the same in every cluster."""
    name, place = user["name"], [f"account={user['account']}", cluster]
    qos = [f"QOS+={','.join(user['qos'])}", f"DefaultQOS={user['default_qos']}"] if user["qos"] else []
    settings = ["modify", "user", name, "where", *place, "set", *qos]
    return [
        Entry(
            name=f"user {name}",
            read=["list", "assoc", *place, f"user={name}", "format=account,user,qos,defaultqos"],
            wanted=[{user["account"]}, {name}, set(user["qos"]), {user["default_qos"]} - {""}],
            make=[["add", "user", name, *place], *([settings] if qos else [])],
        ),
        Entry(
            name=f"level of {name}",
            read=["list", "user", name, "format=user,adminlevel"],
            wanted=[{name}, {user["level"]}],
            make=[["modify", "user", name, "set", f"AdminLevel={user['level']}"]],
        ),
    ]


def sacctmgr(module: AnsibleModule, words: list[str]) -> tuple[int, str]:
    """Run one command without questions and with answers a program can read."""
    code, out, err = module.run_command(["sacctmgr", "--immediate", "--noheader", "--parsable2", *words])
    return code, (out + err).strip()


def holds(module: AnsibleModule, entry: Entry) -> bool:
    """Tell whether a line of the answer has in every column what is wanted there."""
    code, answer = sacctmgr(module, entry.read)
    return code == 0 and any(_has(line.split("|"), entry.wanted) for line in answer.splitlines())


def _has(columns: list[str], wanted: list[set[str]]) -> bool:
    pairs = zip(wanted, columns, strict=False)
    return len(columns) == len(wanted) and all(words <= set(column.split(",")) for words, column in pairs)


def converge(module: AnsibleModule, wanted: list[Entry]) -> list[str]:
    """Make what is missing until a full reading finds nothing missing; return what was made."""
    made: set[str] = set()
    deadline = time.monotonic() + module.params["timeout_s"]
    while missing := [entry for entry in wanted if not holds(module, entry)]:
        answers = {entry.name: [sacctmgr(module, words)[1] for words in entry.make] for entry in missing}
        made.update(answers)
        if time.monotonic() > deadline:
            module.fail_json(
                msg=f"Slurm's accounting does not keep {', '.join(answers)}; sacctmgr answered {answers}. "
                "Look at: journalctl --unit slurmdbd"
            )
        time.sleep(0.5)
    return sorted(made)


def main() -> None:
    """Converge, or in check mode only tell what would be made."""
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "str", "required": True},
            "qos": {"type": "list", "elements": "dict", "required": True},
            "accounts": {"type": "list", "elements": "dict", "required": True},
            "users": {"type": "list", "elements": "dict", "required": True},
            "timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    wanted = entries(module.params)
    if module.check_mode:
        made = [entry.name for entry in wanted if not holds(module, entry)]
    else:
        made = converge(module, wanted)
    module.exit_json(changed=bool(made), made=made)


if __name__ == "__main__":
    main()
