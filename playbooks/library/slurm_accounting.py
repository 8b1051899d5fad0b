"""Bring Slurm's accounting database to one declared state, and prove that it stayed there."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: slurm_accounting
short_description: Cluster, quality of service, account and user in one call
description:
  - Adds what is missing and corrects what differs, then reads everything back.
  - slurmdbd accepts changes right after its start and loses some of them, so the module repeats until what it reads
    is what was asked.
options:
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  qos:
    description: Quality of service of serving jobs.
    type: str
    required: true
  qos_priority:
    description: Priority of that quality of service.
    type: int
    required: true
  account:
    description: Account that serving jobs are charged to.
    type: str
    required: true
  user:
    description: User that owns serving jobs.
    type: str
    required: true
  timeout_s:
    description: How long to go on trying.
    type: int
    default: 60
author: Redoubt
"""


@dataclass(frozen=True)
class Entry:
    """One thing the database must hold: how to read it, what reading must answer, how to make it so."""

    name: str
    read: list[str]
    wanted: list[str]
    make: list[list[str]]


def entries(params: dict[str, str]) -> list[Entry]:
    """List what must hold, in the order it can be made."""
    cluster, qos, account, user = (params[key] for key in ("cluster", "qos", "account", "user"))
    scope = [f"cluster={cluster}"]
    place = [f"account={account}", *scope]
    priority = str(params["qos_priority"])
    settings = ["set", f"Priority={priority}", "UsageFactor=0", "Flags=DenyOnLimit"]
    return [
        Entry(
            name=f"cluster {cluster}",
            read=["list", "cluster", cluster, "format=cluster"],
            wanted=[cluster],
            make=[["add", "cluster", cluster]],
        ),
        Entry(
            name=f"quality of service {qos}",
            read=["list", "qos", qos, "format=name,priority,usagefactor,flags"],
            wanted=[qos, priority, "0.000000", "DenyOnLimit"],
            make=[["add", "qos", qos], ["modify", "qos", qos, *settings]],
        ),
        Entry(
            name=f"account {account}",
            read=["list", "account", account, "format=account"],
            wanted=[account],
            make=[["add", "account", account, *scope, "Description=redoubt", "Organization=redoubt"]],
        ),
        Entry(
            name=f"user {user}",
            read=["list", "assoc", *place, f"user={user}", "format=account,user,qos,defaultqos"],
            wanted=[account, user, qos, qos],
            make=[
                ["add", "user", user, *place],
                ["modify", "user", user, "where", *place, "set", f"QOS={qos}", f"DefaultQOS={qos}"],
            ],
        ),
    ]


def sacctmgr(module: AnsibleModule, words: list[str]) -> tuple[int, str]:
    """Run one command without questions and with answers a program can read."""
    code, out, err = module.run_command(["sacctmgr", "--immediate", "--noheader", "--parsable2", *words])
    return code, (out + err).strip()


def holds(module: AnsibleModule, entry: Entry) -> bool:
    """Tell whether the database answers what is wanted."""
    code, answer = sacctmgr(module, entry.read)
    return code == 0 and "|".join(entry.wanted) in answer.splitlines()


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
            "qos": {"type": "str", "required": True},
            "qos_priority": {"type": "int", "required": True},
            "account": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
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
