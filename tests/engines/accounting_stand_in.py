"""Slurm's accounting and its commands in memory, as they behaved on 24.11.5."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from controlplane.engines.scheduler import Account, Qos, Reservation
from controlplane.engines.slurm.commands import Commands
from controlplane.engines.slurm.reservations import TIME, _kind
from controlplane.engines.slurm.tokens import Tokens
from controlplane.kit.errors import Unavailable


@dataclass
class Accounting:
    """`organizations` and `descriptions` are the marks by which ours are told from others'."""

    accounts: dict[str, Account] = field(default_factory=dict)
    organizations: dict[str, str] = field(default_factory=dict)
    qos: dict[str, Qos] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    refuses: tuple[str, ...] = ()  # words of which each makes a command fail

    def obey(self, program: str, words: tuple[str, ...]) -> None:
        if any(word in self.refuses for word in words):
            raise Refusal("Access/permission denied")
        match (program, *words):
            case ("sacctmgr", "--immediate", verb, noun, *rest):
                getattr(self, f"_{verb}_{noun}")(*rest)
            case ("scontrol", verb, *rest):
                getattr(self, f"_{verb}_reservation")(*rest)

    def _add_qos(self, name, *words):
        if name in self.qos:
            raise Refusal("already exists")
        self.qos[name], self.descriptions[name] = Qos(name, 0, requeues=False), _pairs(words)["Description"]

    def _modify_qos(self, name, _set, *words):
        said, before = _pairs(words), self.qos[name]
        preempts = tuple(word for word in said["Preempt"].split(",") if word)
        if not set(preempts) <= self.qos.keys():
            raise Refusal("bad qos")
        self.descriptions[name] = said["Description"]
        self.qos[name] = Qos(
            name,
            int(said["Priority"]),
            preempts,
            int(said["GraceTime"]),
            said["PreemptMode"] == "requeue",
            _limits(before.gpus, said.get("GrpTRES", "")),
            round(1000 * float(said["UsageFactor"])),
        )

    def _delete_qos(self, name):
        del self.qos[name]
        self.qos = {n: replace(q, preempts=tuple(p for p in q.preempts if p != name)) for n, q in self.qos.items()}

    def _add_account(self, name, *words):
        said = _pairs(words)
        if name in self.accounts:
            raise Refusal("already existing account")
        if said["Parent"] != "root" and said["Parent"] not in self.accounts:
            raise Refusal("no such parent")
        self.accounts[name] = Account(name, said["Parent"].replace("root", ""))
        self.organizations[name] = said["Organization"]

    def _modify_account(self, name, _set, *words):
        said, account = _pairs(words), self.accounts[name]
        if "Organization" in said:
            self.organizations[name] = said["Organization"]
        if "Parent" in said:
            parent = said["Parent"].replace("root", "")
            if parent == account.parent or name in self._line(parent):
                raise Refusal("Request didn't affect anything")
            account = replace(account, parent=parent)
        if "Fairshare" in said:
            gpus = _limits(account.gpus, said.get("GrpTRES", ""))
            account = replace(account, weight=int(said["Fairshare"]), gpus=gpus)
        self.accounts[name] = account

    def _delete_account(self, name):
        for below in [n for n in self.accounts if name in self._line(n)]:  # all of them, and nothing is said
            del self.accounts[below]

    def _add_user(self, user, *words):
        account = self.accounts[_pairs(words)["Account"]]
        if user in account.users:
            raise Refusal("Request didn't affect anything")
        self.accounts[account.name] = replace(account, users=tuple(sorted({*account.users, user})))

    def _modify_user(self, *_words):
        pass

    def _delete_user(self, _where, *words):
        said = _pairs(words)
        account = self.accounts[said["Account"]]
        self.accounts[account.name] = replace(account, users=tuple(u for u in account.users if u != said["Name"]))

    def _create_reservation(self, _reservation, *words):
        said = _pairs(words)
        self.reservations[said["ReservationName"]] = _reserve(said)

    def _update_reservation(self, _reservation, *words):
        said = _pairs(words)
        before = self.reservations[said["ReservationName"]]
        told = {"ReservationName": before.name, "Flags": "", "StartTime": before.starts_at.strftime(TIME)}
        new = _reserve(told | said)
        self.reservations[before.name] = replace(
            before,
            starts_at=new.starts_at,
            ends_at=new.ends_at if {"EndTime", "Duration"} & said.keys() else before.ends_at,
            nodes=new.nodes if {"Nodes", "NodeCnt"} & said.keys() else before.nodes,
            node_count=new.node_count if {"Nodes", "NodeCnt"} & said.keys() else before.node_count,
            accounts=new.accounts if "Accounts" in said else before.accounts,
        )

    def _delete_reservation(self, *words):
        del self.reservations[_pairs(words)["ReservationName"]]

    def _line(self, name):
        line = []
        while name in self.accounts and name not in line:
            line.append(name)
            name = self.accounts[name].parent
        return line


class Refusal(Exception):
    pass


class CommandsOf(Commands):
    """Slurm's commands on an accounting in memory."""

    def __init__(self, accounting: Accounting) -> None:
        super().__init__(Path("/nowhere"), Tokens(None))
        self.accounting = accounting
        self.said: list[tuple[str, ...]] = []

    async def run(self, program: str, *words: str) -> str:
        self.said.append((program, *words))
        try:
            self.accounting.obey(program, words)
        except (Refusal, KeyError) as refusal:
            raise Unavailable(str(refusal), remedy="", reasons=(str(refusal),)) from None
        return ""


def _pairs(words) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words)


def _limits(before, told: str):
    limits = dict(before)
    for part in told.split(","):
        if part:
            kind, count = part.removeprefix("gres/gpu:").split("=")
            limits[kind] = int(count)
    return tuple(sorted((kind, count) for kind, count in limits.items() if count >= 0))


def _reserve(said: dict[str, str]) -> Reservation:
    return Reservation(
        said["ReservationName"],
        _kind(set(said["Flags"].split(","))),
        _at(said["StartTime"]),
        _at(said["EndTime"]) if "EndTime" in said else None,
        nodes=tuple(said["Nodes"].split(",")) if "Nodes" in said else (),
        node_count=int(said.get("NodeCnt", 0)),
        accounts=tuple(word for word in said.get("Accounts", "").split(",") if word),
    )


def _at(text: str) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) if text == "now" else datetime.strptime(text, TIME).replace(tzinfo=UTC)
