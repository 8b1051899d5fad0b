"""From what Slurm has to what it ought to have: sacctmgr's words, in an order in which they can be done.

Slurm deletes an account with everything below it and says nothing, so one that still has accounts below it stays.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controlplane.engines.scheduler import Account, Qos
from controlplane.engines.slurm.accounting import OURS, ROOT


@dataclass(frozen=True)
class Change:
    """One command. Where it `may_fail` it only makes sure that something is there which may be there already."""

    words: tuple[str, ...]
    told: str
    may_fail: bool = False


def change_qos(wanted: Iterable[Qos], is_now: Iterable[Qos]) -> Iterator[Change]:
    """Yield what makes the classes of work so; all are there before one is told which of them it may preempt."""
    now = {qos.name: qos for qos in is_now}
    differing = [qos for qos in wanted if now.get(qos.name) != qos]
    for qos in differing:
        if qos.name not in now:
            yield Change(("add", "qos", qos.name, f"Description={OURS}"), f"added qos {qos.name}", may_fail=True)
    for qos in differing:
        before = now.get(qos.name, Qos(qos.name, 0)).gpus
        yield Change(("modify", "qos", qos.name, "set", *_qos_words(qos, before)), f"set qos {qos.name}")


def remove_qos(wanted: Iterable[Qos], is_now: Iterable[Qos]) -> Iterator[Change]:
    keep = {qos.name for qos in wanted}
    for qos in is_now:
        if qos.name not in keep:
            yield Change(("delete", "qos", qos.name), f"removed qos {qos.name}")


def change_accounts(wanted: Iterable[Account], is_now: Iterable[Account]) -> Iterator[Change]:
    """Yield what makes the accounts so, parents first, then who may use them."""
    now, asked = {account.name: account for account in is_now}, {account.name: account for account in wanted}
    for account in sorted(asked.values(), key=lambda account: (_depth(account, asked), account.name)):
        before = now.get(account.name)
        if before == account:
            continue
        if before is None:
            yield from _add_account(account)
        elif before.parent != account.parent:
            moved = ("modify", "account", account.name, "set", f"Parent={account.parent or ROOT}")
            yield Change(moved, f"moved account {account.name} below {account.parent or ROOT}")
        yield from _set_account(account, before)
        yield from _set_users(account, before, _homes(asked.values()))


def remove_accounts(wanted: Iterable[Account], is_now: Iterable[Account], foreign: Iterable[str]) -> Iterator[Change]:
    """Yield what removes accounts, children first, and none with one below it that stays or is not ours."""
    asked = {account.name: account for account in wanted}
    surplus = {account.name: account for account in is_now if account.name not in asked}
    parents = {account.parent for account in is_now if account.name in asked}
    parents |= {words.rpartition("below ")[2] for words in foreign if words.startswith("account ")}
    for account in sorted(surplus.values(), key=lambda account: (-_depth(account, surplus), account.name)):
        if account.name not in parents:
            yield from _move_homes(account.users, _homes(asked.values()))
            yield Change(("delete", "account", account.name), f"removed account {account.name}")


def _add_account(account: Account) -> Iterator[Change]:
    """Add it; where it is there already that changes nothing of it, and so everything is said once more."""
    parent, marks = f"Parent={account.parent or ROOT}", (f"Organization={OURS}", f"Description={OURS}")
    yield Change(("add", "account", account.name, parent, *marks), f"added account {account.name}", may_fail=True)
    yield Change(("modify", "account", account.name, "set", *marks), "", may_fail=True)
    yield Change(("modify", "account", account.name, "set", parent), "", may_fail=True)  # fails where it is there


def _set_account(account: Account, before: Account | None) -> Iterator[Change]:
    limits = _limit_words(account.gpus, before.gpus if before else ())
    if before is None or limits or before.weight != account.weight:
        words = (f"Fairshare={account.weight}", *limits)
        yield Change(("modify", "account", account.name, "set", *words), f"set account {account.name}")


def _set_users(account: Account, before: Account | None, homes: dict[str, str]) -> Iterator[Change]:
    had = set(before.users) if before else set()
    for user in sorted(set(account.users) - had):
        told = f"let {user} use account {account.name}"
        yield Change(("add", "user", user, f"Account={account.name}"), told, may_fail=before is None)
    yield from _move_homes(had - set(account.users), homes)
    for user in sorted(had - set(account.users)):
        where = ("where", f"Name={user}", f"Account={account.name}")
        yield Change(("delete", "user", *where), f"took {user} from account {account.name}")


def _homes(accounts: Iterable[Account]) -> dict[str, str]:
    """Return an account for each user to be at home in: Slurm takes nobody from the account that is its default."""
    return {user: account.name for account in accounts for user in account.users}


def _move_homes(users: Iterable[str], homes: dict[str, str]) -> Iterator[Change]:
    for user in sorted(users):
        if user in homes:
            yield Change(("modify", "user", user, "set", f"DefaultAccount={homes[user]}"), "", may_fail=True)


def _qos_words(qos: Qos, before: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    return (
        f"Priority={qos.priority}",
        f"Preempt={','.join(qos.preempts)}",
        f"PreemptMode={'requeue' if qos.requeues else 'cancel'}",
        f"GraceTime={qos.grace_s}",
        f"UsageFactor={qos.usage_permille / 1000:.3f}",
        f"Description={OURS}",
        *_limit_words(qos.gpus, before),
    )


def _limit_words(wanted: tuple[tuple[str, int], ...], before: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    limits = {kind: -1 for kind, _count in before} | dict(wanted)  # -1 takes a limit away
    if not limits:
        return ()  # neither now nor before
    return (f"GrpTRES={','.join(f'gres/gpu:{kind}={count}' for kind, count in sorted(limits.items()))}",)


def _depth(account: Account, among: dict[str, Account]) -> int:
    depth = 0
    while account.parent in among and depth < len(among):
        account, depth = among[account.parent], depth + 1
    return depth
