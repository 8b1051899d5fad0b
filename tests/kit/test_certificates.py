"""Signatures under the issuing authority: what stands between a leaf and the root must be an authority itself."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from controlplane.kit.certificates import NotTrusted, check_certificate, load_authority
from controlplane.kit.issuing import Issuer, LeafNames, Usage
from tests.support.certificates import issue, make_issuer, make_site_ca

SHORT = timedelta(minutes=30)


def test_a_leaf_of_the_issuing_authority_holds_and_one_that_a_mere_leaf_signed_does_not(tmp_path: Path) -> None:
    ca = make_site_ca(tmp_path)
    authority, at = load_authority(ca.path.read_bytes()), datetime.now(UTC)
    issuer = make_issuer(ca)
    key = ec.generate_private_key(ec.SECP256R1())
    names = LeafNames("gpu1", ("gpu1",), (), "redoubt://s/zone/z/node/gpu1")

    def signed_by(by: Issuer) -> bytes:
        leaf = by.issue(key.public_key(), names, frozenset({Usage.CLIENT}), start=at - SHORT, end=at + SHORT)
        return leaf.certificate.public_bytes(Encoding.DER)

    between = issuer.certificate.public_bytes(Encoding.DER)
    own = signed_by(issuer)
    forger = Issuer(key, x509.load_der_x509_certificate(own))  # whoever holds a leaf signs leaves of other nodes
    assert check_certificate(own, authority, at, issuer=between).public_key() == key.public_key()
    with pytest.raises(NotTrusted):
        check_certificate(own, authority, at)
    with pytest.raises(NotTrusted):
        check_certificate(signed_by(forger), authority, at, issuer=own)
    root_leaf = x509.load_pem_x509_certificate(issue(ca, "gpu2").certificate.read_bytes()).public_bytes(Encoding.DER)
    with pytest.raises(NotTrusted):
        check_certificate(own, authority, at, issuer=root_leaf)
