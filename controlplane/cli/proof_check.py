"""Whether an isolation proof is what a site signed: offline, from the file and the site's CA alone."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.x509 import Certificate
from pydantic import ValidationError

from controlplane.contracts.proof import NODE_DOMAIN, SITE_DOMAIN, NodePart, Signed, SiteProof
from controlplane.domains.health.rules import judge_site
from controlplane.domains.health.types import Judgement
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.certificates import NotTrusted, check_certificate, check_signature, decode_exactly, uri_of
from controlplane.kit.errors import BadInput, Refused
from controlplane.sitespec.spec import Site

SKEW = timedelta(minutes=5)
AGAIN = "make a new one: redoubt site prove SITE.YML --out FILE"
UNTOUCHED = "fetch the file again from whoever made it; if it stays so, somebody changed it"


@dataclass(frozen=True)
class Checked:
    """A proof whose signatures hold, the nodes' parts in the clear, and the verdict that its evidence bears."""

    proof: SiteProof
    parts: Mapping[str, NodePart]
    judgement: Judgement
    not_checked: tuple[str, ...]


def check_proof(data: bytes, authority: Certificate, *, now: datetime, most_age: timedelta | None) -> Checked:
    """Return what the proof says; raises BadInput for no proof at all and Refused for one that is not to be trusted."""
    whole = read_whole(data)
    proof = _read_site(whole)
    _trust(whole, SITE_DOMAIN, authority, proof.ended_at, proof.certificate_sha256, _signer(proof.site), "the proof")
    parts = {name: read_part(proof, name, signed, authority) for name, signed in proof.nodes.items()}
    _refuse_other_nodes(proof)
    _refuse_stale(proof, now, most_age)
    judgement = judge_site(proof, parts)
    if (judgement.verdict, judgement.reasons) != (proof.verdict, proof.reasons):
        raise _refused(f"it says {proof.verdict} and its evidence says {judgement.verdict}", "wrong_verdict", AGAIN)
    return Checked(proof, parts, judgement, not_checked(proof, parts))


def check_spec(checked: Checked, site: Site, source: str) -> None:
    """Raise Refused unless the proof is of this very spec and covers exactly its nodes."""
    declared = {(node.name, node.zone, str(node.address)) for node in site.nodes}
    proven = {(node.name, node.zone, node.address) for node in checked.proof.declared}
    if checked.proof.site != site.name or declared != proven:
        odd = ", ".join(sorted(name for name, _, _ in declared ^ proven))
        raise _refused(
            f"it covers other nodes than {site.name} declares: {odd or checked.proof.site}", "other_nodes", AGAIN
        )
    if sha256_hex(source.encode()) != checked.proof.spec_sha256:
        raise _refused("it was made for another version of this site spec", "other_spec", AGAIN)


def read_whole(data: bytes) -> Signed:
    """Read a file that has one form only: every other byte is a change."""
    try:
        value = json.loads(data)
        whole = Signed.model_validate(value)
    except (ValueError, ValidationError, RecursionError):
        raise BadInput("this is no isolation proof", remedy=AGAIN, code="no_proof") from None
    if canonical_json(value) + b"\n" != data:
        raise _refused("its bytes are not in the form in which they were written", "changed", UNTOUCHED)
    return whole


def read_part(proof: SiteProof, name: str, signed: Signed, authority: Certificate) -> NodePart:
    """Return a node's part if that node signed it for this very run; raises Refused."""
    try:
        part = NodePart.model_validate_json(signed.payload)
    except ValidationError:
        raise _refused(f"the part of {name} cannot be read", "changed", UNTOUCHED) from None
    zone = next((node.zone for node in proof.declared if node.name == name), None)
    if (part.site, part.node, part.zone, part.run) != (proof.site, name, zone, proof.run):
        raise _refused(f"the part of {name} is of another node, site or run", "swapped_part", AGAIN)
    if part.started_at < proof.started_at - SKEW or part.ended_at > proof.ended_at + SKEW:
        raise _refused(f"the part of {name} is of another time", "swapped_part", AGAIN)
    uri = re.compile(re.escape(f"redoubt://{part.site}/zone/{part.zone}/node/{part.node}"))
    _trust(signed, NODE_DOMAIN, authority, part.ended_at, part.certificate_sha256, uri, f"the part of {name}")
    return part


def not_checked(proof: SiteProof, parts: Mapping[str, NodePart]) -> tuple[str, ...]:
    """Say what neither the proof nor its verification tells."""
    own = (
        "whether the authority's key was in the right hands when it signed the certificates",
        "what happened before and after the minutes of the proof",
    )
    told = (f"{name}: {gap}" for name, part in sorted(parts.items()) for gap in part.not_checked)
    return tuple(dict.fromkeys((*proof.not_checked, *_shared(tuple(told), len(parts)), *own)))


def _shared(told: tuple[str, ...], nodes: int) -> tuple[str, ...]:
    """Say once what every node says."""
    gaps = [line.partition(": ")[2] for line in told]
    return tuple(dict.fromkeys(gap if gaps.count(gap) == nodes else line for line, gap in zip(told, gaps, strict=True)))


def _read_site(whole: Signed) -> SiteProof:
    try:
        return SiteProof.model_validate_json(whole.payload)
    except ValidationError:
        raise BadInput("this is no isolation proof", remedy=AGAIN, code="no_proof") from None


def _trust(
    signed: Signed, domain: bytes, authority: Certificate, at: datetime, sha256: str, uri: re.Pattern[str], what: str
) -> None:
    try:
        der = decode_exactly(signed.certificate)
        if sha256_hex(der) != sha256:
            raise NotTrusted("it names another certificate than it carries")
        issuer = None if signed.issuer is None else decode_exactly(signed.issuer)
        certificate = check_certificate(der, authority, at, issuer=issuer)
        if not uri.fullmatch(uri_of(certificate)):
            raise NotTrusted(f"it is signed by {uri_of(certificate)}")
        check_signature(certificate, domain + signed.payload.encode(), decode_exactly(signed.signature))
    except NotTrusted as why:
        raise _refused(f"{what} is not to be trusted: {why}", "bad_signature", UNTOUCHED) from None


def _signer(site: str) -> re.Pattern[str]:
    return re.compile(rf"redoubt://{re.escape(site)}/zone/[^/]+/service/proof")


def _refuse_other_nodes(proof: SiteProof) -> None:
    declared = {node.name for node in proof.declared}
    strange = sorted({*proof.nodes, *proof.absent} - declared)
    untold = sorted(declared - {*proof.nodes, *proof.absent})
    if strange or untold:
        raise _refused(f"its nodes are not those declared: {', '.join([*strange, *untold])}", "missing_node", AGAIN)


def _refuse_stale(proof: SiteProof, now: datetime, most_age: timedelta | None) -> None:
    if proof.ended_at > now + SKEW:
        raise _refused(f"it was made in the future, at {proof.ended_at.isoformat()}", "future", "check this clock")
    if most_age is not None and now - proof.ended_at > most_age:
        hours = round((now - proof.ended_at).total_seconds() / 3600)
        remedy = f"{AGAIN}; or say how old it may be: --max-age-hours {hours + 1}"
        raise _refused(f"it is {hours} hours old", "stale", remedy)


def _refused(detail: str, code: str, remedy: str) -> Refused:
    return Refused(detail, remedy=remedy, code=code)
