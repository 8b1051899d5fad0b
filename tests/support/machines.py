"""Machines of a test site: their leaves as TLS would show them, and an authority that issues more."""

import tempfile
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from controlplane.domains.pki.service import Authority
from controlplane.domains.pki.types import Kind, LeafTerms, PresentLeaf
from tests.support.certificates import SiteCa, make_issuer, make_site_ca

HOST = "host1"  # where services of a test site live


@cache
def site_ca() -> SiteCa:
    """Return the one root of this test run; making keys is slow."""
    return make_site_ca(Path(tempfile.mkdtemp(prefix="test-ca-")))


def make_authority(site: str, terms: LeafTerms | None = None) -> Authority:
    return Authority(site, make_issuer(site_ca(), site=site), terms or LeafTerms())


def make_leaf(
    kind: str,
    name: str,
    *,
    now: datetime,
    site: str = "testsite",
    zone: str = "north",
    age: timedelta = timedelta(hours=1),
    life: timedelta = timedelta(hours=48),
) -> PresentLeaf:
    """Return the leaf of a machine, issued `age` ago."""
    node = name if kind == "node" else HOST
    start = (now - age).replace(microsecond=0)
    return PresentLeaf(
        site=site, zone=zone, kind=Kind(kind), name=name, node=node, dns=(node,), ip=("10.0.0.1",), serial="5e",
        fingerprint="00" * 32, not_before=start, not_after=start + life,
    )  # fmt: skip
