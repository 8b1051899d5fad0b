"""What shares and pools say to an ask: within the guarantee, beyond it, or not at all."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from controlplane.domains.allocation.types import Claim, LeaseFact, Used, Verdict
from controlplane.domains.shares import rules as shares


def judge(claim: Claim, gpu_type: str, count: int) -> Verdict:
    """Say whether `count` more GPUs of a type are within the limits of a claim, and of which class they are."""
    denied = _by_share(claim, gpu_type, count) or _by_pool(claim, gpu_type, count)
    if denied is not None:
        return denied
    beyond = is_beyond(claim, gpu_type, count)
    return _not_firm(claim, gpu_type) if beyond and claim.firm else Verdict(beyond)


def never(claim: Claim, gpu_type: str, count: int) -> Verdict:
    """Say the same as if nothing were in use."""
    return judge(replace(claim, used=Used()), gpu_type, count)


def count_used(leases: Iterable[LeaseFact], chains: Mapping[str, tuple[str, ...]]) -> Used:
    """Add live leases up along what each share is a part of."""
    used, guaranteed = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    pools, projects = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for lease in leases:
        pools[lease.pool, lease.gpu_type] += lease.count
        projects[lease.project, lease.pool] += lease.count
        for share in chains.get(lease.share, (lease.share,)):
            used[share, lease.gpu_type] += lease.count
            if not lease.over_quota:
                guaranteed[share, lease.gpu_type] += lease.count
    return Used(used, guaranteed, pools, projects)


def _by_share(claim: Claim, gpu_type: str, count: int) -> Verdict | None:
    if not shares.bounded(claim.project):
        return None
    own = claim.quotas.get((claim.project, gpu_type))
    if own is None or own.most == 0:
        remedy = f"ask an administrator: redoubt quota set {claim.project} {gpu_type} --guaranteed 0 --most {count}"
        return Verdict(code="no_quota", why=f"{claim.project} may use no {gpu_type}", remedy=remedy)
    for name in claim.chain:
        quota = claim.quotas.get((name, gpu_type))
        used = claim.used.all.get((name, gpu_type), 0)
        if quota is not None and used + count > quota.most:
            why = f"{name} uses {used} of at most {quota.most} {gpu_type}, {count} asked"
            if claim.tells and name not in claim.chain[: claim.chain.index(claim.project) + 1]:
                why = f"what is left of {gpu_type} for {name} is less than {count}"
            way = "end work of it" if count <= quota.most else f"ask for at most {quota.most}"
            return Verdict(code="over_quota", why=why, remedy=f"{way}, or raise --most of redoubt quota set {name}")
    return None


def _by_pool(claim: Claim, gpu_type: str, count: int) -> Verdict | None:
    pool = claim.terms.pool
    most, used = dict(claim.terms.max_gpus).get(gpu_type), claim.used.pools.get((pool, gpu_type), 0)
    if most is not None and used + count > most:
        why = f"pool {pool} has {used} of at most {most} {gpu_type} in use, {count} asked"
        if claim.tells:
            why = f"pool {pool} has less than {count} x {gpu_type} left"
        return Verdict(code="over_quota", why=why, remedy=f"wait for work in it, or: redoubt pool set {pool} …")
    mine, bound = claim.used.projects.get((claim.project, pool), 0), claim.terms.project_most
    if bound is not None and mine + count > bound and shares.bounded(claim.project):
        why = f"{claim.project} uses {mine} GPUs of pool {pool}, where a project may use {bound}; {count} asked"
        return Verdict(code="over_quota", why=why, remedy=f"end work of {claim.project} in {pool}, or use another pool")
    return None


def _not_firm(claim: Claim, gpu_type: str) -> Verdict:
    why = f"it would be beyond what {claim.project} is guaranteed of {gpu_type}"
    remedy = f"raise --guaranteed of redoubt quota set {claim.project} {gpu_type}"
    return Verdict(code="beyond_guarantee", why=why, remedy=remedy)


def is_beyond(claim: Claim, gpu_type: str, count: int) -> bool:
    """Say whether work is beyond a guarantee of its chain; the platform's own is not, unless it yields."""
    quotas = [q for name in claim.chain if (q := claim.quotas.get((name, gpu_type))) is not None]
    used = claim.used.guaranteed
    over = any(used.get((q.share, gpu_type), 0) + count > q.guaranteed for q in quotas)
    return claim.yields or (shares.bounded(claim.project) and over)
