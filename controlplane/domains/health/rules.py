"""When a node counts as isolated. Unknown means no: what was not tried, or not seen, is never green."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

from controlplane.contracts.proof import Context, NodePart, SiteProof, Trap, Vantage
from controlplane.domains.audit.types import Role
from controlplane.domains.health.types import Fault, IncidentKind, Judgement, NewestProof
from controlplane.domains.identity.types import OpenGlass
from controlplane.domains.pki.types import EndingLeaf
from controlplane.domains.witness.types import Quorum

LEAKS = frozenset({"sent", "answered", "present"})
BLOCKED = frozenset({"denied", "no_route", "silent", "unresolved", "unsupported", "absent"})
KINDS = frozenset({"tcp", "udp", "icmp", "dns", "ntp", "other", "ip6", "metadata", "proxy"})
OF_BOUNDARY = frozenset({IncidentKind.LEAK, IncidentKind.UNPROVEN, IncidentKind.STALE})
HOOKS = ("input", "output", "forward")
STALE_AFTER = timedelta(minutes=40)  # two timers of 15 minutes, their jitter, and one that was late
GLASS = "break-glass"  # the subject, where others name a node
SITE = "site"  # subject of what a proof of the whole site shows
REOPENED_WITHIN = timedelta(hours=1)


def judge_node(part: NodePart) -> Judgement:
    """Judge what one node saw."""
    open_hooks = [hook for hook in HOOKS if part.policies.get(hook) != "drop"]
    leaks = [f"the kernel of {part.node} has no boundary for {', '.join(open_hooks)}"] if open_hooks else []
    leaks += [leak for context in part.contexts for leak in _leaks(part.node, context)]
    if part.witness is not None and part.witness.left:
        leaks.append(f"{part.node}: {part.witness.left} packets passed every filter on their way outside")
    return _judgement(leaks, [*_gaps(part), *_uncounted(part)])


def judge_site(proof: SiteProof, parts: Mapping[str, NodePart]) -> Judgement:
    """Judge a whole site from its evidence; `parts` are the nodes' parts whose signatures hold."""
    judged = [judge_node(part) for part in parts.values()]
    leaks = [reason for one in judged if one.verdict == "leaking" for reason in one.reasons]
    doubts = [reason for one in judged if one.verdict == "inconclusive" for reason in one.reasons]
    doubts += [
        f"{node.name} gave no proof: {proof.absent.get(node.name, 'no reason given')}"
        for node in proof.declared
        if node.name not in parts
    ]
    for vantage in proof.outside_in:
        leaks += strangers(vantage)
        doubts += _unsure(vantage)
    if not proof.outside_in:
        doubts.append("nobody knocked from outside")
    return _judgement([*leaks, *_trapped(proof.trap)], [*doubts, *_deaf(proof.trap)])


def strangers(vantage: Vantage) -> list[str]:
    """Return the ports that answer and that nobody declared."""
    return [
        f"{answer.node} answers {answer.protocol} {answer.port} to the {vantage.name} ({answer.how}), undeclared"
        for answer in vantage.answered
        if not any(
            (allowed.node, allowed.protocol) == (answer.node, answer.protocol)
            and allowed.first <= answer.port <= allowed.last
            for allowed in vantage.allowed
        )
    ]


def tally(context: Context) -> tuple[int, int, int]:
    """Return attempts, blocked and leaked of one context."""
    outcomes = Counter[str]()
    for attempts in context.attempts:
        outcomes.update(attempts.outcomes)
    leaked, blocked = (sum(outcomes[word] for word in words) for words in (LEAKS, BLOCKED))
    return outcomes.total(), blocked, leaked


def faults_of(
    node: str, newest: NewestProof | None, declared_at: datetime, still_open: AbstractSet[IncidentKind], now: datetime
) -> list[Fault]:
    """Return what is wrong with a node. Only a fresh proof of isolation ends a leak, and doubt only ends by proof."""
    found = _unisolated(newest, still_open)
    since = max(newest.at, declared_at) if newest else declared_at
    if now - since > STALE_AFTER:
        minutes = int((now - since).total_seconds() // 60)
        found[IncidentKind.STALE] = f"no proof for {minutes} minutes" if newest else "its timer never gave a proof"
    if IncidentKind.STALE in found:
        for kind in still_open - found.keys():
            found[kind] = found[IncidentKind.STALE]
    return _as_faults(node, newest, found)


def faults_of_site(newest: NewestProof | None, still_open: AbstractSet[IncidentKind]) -> list[Fault]:
    """Return what is wrong by the newest whole proof. One is made on demand, so none grows stale."""
    return _as_faults(SITE, newest, _unisolated(newest, still_open))


def faults_of_glass(opened: Sequence[OpenGlass], missing: Collection[Role]) -> list[Fault]:
    """Return what everybody should hear about the break-glass: that it is open, and that nobody could open it."""
    found = []
    if opened:
        until = max(glass.ends_at for glass in opened)
        found.append(
            Fault(IncidentKind.BREAK_GLASS_OPEN, GLASS, f"somebody may do everything until {until:%H:%M} UTC", "")
        )
    if missing:
        who = " and ".join(sorted(missing))
        found.append(Fault(IncidentKind.BREAK_GLASS_UNSEALED, GLASS, f"no {who} holds a share that counts", ""))
    return found


def faults_of_certificates(ending: Iterable[EndingLeaf], now: datetime) -> list[Fault]:
    """Return a fault per node whose certificates nobody renewed; a quarter of their life is left, or less."""
    by_node: dict[str, list[str]] = {}
    for leaf in ending:
        verb = "ended" if leaf.not_after < now else "ends"
        by_node.setdefault(leaf.node, []).append(f"{leaf.name} {verb} at {leaf.not_after.isoformat()}")
    return [Fault(IncidentKind.ENDING, node, "; ".join(told), "") for node, told in sorted(by_node.items())]


def faults_of_log(quorum: Quorum) -> list[Fault]:
    """Return what witnesses hold against the audit log. A refusal ends only when that witness signs again."""
    found = [Fault(IncidentKind.WITNESS_REFUSES, one.node, one.refusal, "") for one in quorum.standings if one.refusal]
    if quorum.is_short:
        told = f"{len(quorum.fresh)} of {len(quorum.standings)} nodes vouch for the audit log, {quorum.needed} must"
        found.append(Fault(IncidentKind.FEW_WITNESSES, SITE, told, ""))
    return found


def is_reopened(closed_at: datetime, now: datetime) -> bool:
    """Say whether a fault that is back so soon is the same incident."""
    return now - closed_at <= REOPENED_WITHIN


def _as_faults(subject: str, newest: NewestProof | None, found: Mapping[IncidentKind, str]) -> list[Fault]:
    return [Fault(kind, subject, text, newest.sha256 if newest else "") for kind, text in found.items()]


def _unisolated(newest: NewestProof | None, still_open: AbstractSet[IncidentKind]) -> dict[IncidentKind, str]:
    """Return the faults that a proof shows by itself. Doubt does not end a leak, and nothing ends without a proof."""
    if newest is None:
        return dict.fromkeys(still_open - {IncidentKind.STALE}, "no proof is known since")
    detail = "; ".join(newest.reasons[:3])
    if newest.verdict == "leaking":
        return {IncidentKind.LEAK: detail}
    found = {IncidentKind.UNPROVEN: detail} if newest.verdict == "inconclusive" else {}
    if found and IncidentKind.LEAK in still_open:
        found[IncidentKind.LEAK] = f"leaked before, and is not proven since: {detail}"
    return found


def _judgement(leaks: list[str], doubts: list[str]) -> Judgement:
    if leaks:
        return Judgement("leaking", (*leaks, *doubts))
    return Judgement("inconclusive", tuple(doubts)) if doubts else Judgement("isolated")


def _leaks(node: str, context: Context) -> Iterator[str]:
    for anomaly in context.anomalies:
        if anomaly.outcome in LEAKS:
            yield f"{node}, {context.name}: {anomaly.target} was {anomaly.outcome} {anomaly.detail}".rstrip()
    listed = sum(anomaly.outcome in LEAKS for anomaly in context.anomalies)
    if tally(context)[2] > listed:
        yield f"{node}, {context.name}: {tally(context)[2] - listed} leaks are counted and not listed"


def _gaps(part: NodePart) -> Iterator[str]:
    """Say which evidence is missing."""
    names = {context.name for context in part.contexts}
    wanted = ["root", *(f"user {name}" for name in part.expected), *(["slurm job"] if part.expects_job else [])]
    yield from (f"{part.node}: nothing was tried as {name}" for name in wanted if name not in names)
    for context in part.contexts:
        yield from (f"{part.node}, {context.name}: {gap}" for gap in _context_gaps(context))


def _context_gaps(context: Context) -> Iterator[str]:
    if context.error:
        yield context.error
        return
    broken = sorted(means for means, worked in context.control.items() if not worked)
    if broken or not {"tcp", "udp"} <= context.control.keys():
        yield f"the prober does not reach loopback itself ({', '.join(broken) or 'not tried'}), so it proves nothing"
    tried = {attempts.kind for attempts in context.attempts if sum(attempts.outcomes.values())}
    if tried < KINDS:
        yield f"not tried: {', '.join(sorted(KINDS - tried))}"
    failed = [anomaly for anomaly in context.anomalies if anomaly.outcome == "failed"]
    yield from (f"{anomaly.target} failed: {anomaly.detail}" for anomaly in failed)


def _uncounted(part: NodePart) -> Iterator[str]:
    """Say where the kernel's own counters do not bear the attempts out."""
    if part.witness is None or part.drops_before is None or part.drops_after is None:
        yield f"{part.node}: the kernel's counters could not be read"
        return
    taken = sum(_taken(context) for context in part.contexts)
    rise = _dropped(part.drops_after) - _dropped(part.drops_before)
    if rise < taken:
        yield f"{part.node}: the boundary counted {rise} drops for {taken} packets that it was given"
    if part.witness.tried < taken:
        yield f"{part.node}: the kernel saw {part.witness.tried} packets for {taken} attempts"


def _taken(context: Context) -> int:
    """Count attempts that handed the kernel a packet which then went nowhere."""
    return sum(attempts.outcomes.get("denied", 0) + attempts.outcomes.get("silent", 0) for attempts in context.attempts)


def _dropped(counters: Mapping[str, int]) -> int:
    return sum(packets for name, packets in counters.items() if name.startswith("dropped_out"))


def _unsure(vantage: Vantage) -> Iterator[str]:
    if vantage.error:
        yield f"from the {vantage.name}: {vantage.error}"
    elif not vantage.control:
        yield f"from the {vantage.name}: the scanner does not reach what it must, so its silence proves nothing"


def _trapped(trap: Trap | None) -> Iterable[str]:
    if trap is None:
        return ()
    return (
        f"the trap heard {p.source} send {p.protocol} to {p.destination} {p.port or ''}".rstrip() for p in trap.packets
    )


def _deaf(trap: Trap | None) -> Iterable[str]:
    if trap is None or trap.heard_canary:
        return ()
    return (f"the trap {trap.recorder} did not hear the canary: {trap.error or 'it recorded nothing'}",)
