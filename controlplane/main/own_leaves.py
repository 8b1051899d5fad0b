"""The api's own certificates: it holds the issuing key, so it needs nobody to renew them, least of all at its start.

Its listeners' certificate and the one it shows to the database may have ended while everything was off. Both are
renewed before the first connection, and put on record as soon as the database answers.
"""

from dataclasses import dataclass
from datetime import timedelta

import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID

from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.pki import rules
from controlplane.domains.pki import service as pki
from controlplane.domains.pki.service import Authority
from controlplane.kit.certificates import uri_of
from controlplane.kit.clock import Clock
from controlplane.kit.issuing import IssuedLeaf, LeafNames, Usage, make_request, read_request, serial_of
from controlplane.kit.leaf import lay_pair
from controlplane.kit.tls import CertificateFiles
from controlplane.kit.tx import Database

log = structlog.get_logger()


@dataclass(frozen=True)
class OwnPair:
    """A pair of this process and what it is for."""

    files: CertificateFiles
    usage: Usage


class OwnLeaves:
    """Looks at the pairs and renews what is due."""

    def __init__(self, authority: Authority, pairs: tuple[OwnPair, ...], clock: Clock) -> None:
        self._authority = authority
        self._pairs = pairs
        self._clock = clock
        self._unrecorded: list[tuple[IssuedLeaf, str, LeafNames]] = []

    def renew_due(self) -> None:
        """Renew every pair that is past half its life, or past its end."""
        now = self._clock.now()
        for pair in self._pairs:
            present = x509.load_pem_x509_certificate(pair.files.certificate.read_bytes())
            start, end = present.not_valid_before_utc, present.not_valid_after_utc
            if now >= rules.renew_at(start, end, serial_of(present)):
                self._renew(pair, present)

    async def record(self, database: Database) -> None:
        """Put on record what was renewed since; what cannot be recorded now is tried again."""
        for told in tuple(self._unrecorded):
            leaf, fingerprint, names = told
            async with database.transaction() as tx:
                await pki.record_own_leaf(
                    tx, SYSTEM, leaf=leaf, fingerprint=fingerprint, node=next(iter(names.dns), ""), uri=names.uri
                )
            self._unrecorded.remove(told)

    def _renew(self, pair: OwnPair, present: x509.Certificate) -> None:
        key_pem, request_pem = make_request("")
        request, names = read_request(request_pem), names_in(present)
        start = self._clock.now().replace(microsecond=0) - rules.SKEW  # others check it by their own clocks
        life = timedelta(seconds=self._authority.terms.life_s)
        leaf = self._authority.issuer.issue(
            request.key, names, frozenset({pair.usage}), start=start, end=start + rules.SKEW + life
        )
        lay_pair(pair.files.certificate.parent.parent, leaf.serial, key_pem, leaf.pem)
        self._unrecorded.append((leaf, request.fingerprint, names))
        log.info("certificate.renewed", identity=names.uri, until=leaf.certificate.not_valid_after_utc.isoformat())


def names_in(certificate: x509.Certificate) -> LeafNames:
    """Return every name of a leaf, for its successor."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    subject = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return LeafNames(
        str(subject[0].value) if subject else "",
        tuple(names.get_values_for_type(x509.DNSName)),
        tuple(str(address) for address in names.get_values_for_type(x509.IPAddress)),
        uri_of(certificate),
    )
