"""Which gateway certificates a run lets in: one that lapsed stays good for the run that knew it before it lapsed.

A run that serves must not fall silent because the control plane, which renews certificates, is away. But an old key
from a stolen disk must not open it either. So a run remembers, per machine, the newest certificate that it let in
while that was in its time; after its end it is the only one of that machine that still gets in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from controlplane.contracts.runs import RefusedMachine
from controlplane.domains.pki import rules
from controlplane.kit.certificates import NotTrusted, uri_of
from controlplane.kit.issuing import serial_of


@dataclass(frozen=True)
class Shown:
    """A certificate as a gateway showed it; TLS has checked its chain, not its dates."""

    uri: str
    machine: str
    serial: str
    not_before: datetime
    not_after: datetime


def read_shown(der: bytes | None) -> Shown | None:
    """Return what a certificate says; None for one that names nobody."""
    if der is None:
        return None
    try:
        found = x509.load_der_x509_certificate(der)
        uri = uri_of(found)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (NotTrusted, ValueError):
        return None
    machine = next(iter(names.get_values_for_type(x509.DNSName)), "")
    return Shown(uri, machine, serial_of(found), found.not_valid_before_utc, found.not_valid_after_utc)


class Admission:
    """Decides for one run. `refused` is the newest word of the control plane."""

    def __init__(self, gateway_uri: str, now: Callable[[], datetime]) -> None:
        self.refused: Sequence[RefusedMachine] = ()
        self._gateway_uri = gateway_uri
        self._now = now
        self._newest: dict[str, Shown] = {}

    def refusal(self, shown: Shown | None) -> str:
        """Say why this certificate does not get in; "" lets it in."""
        if shown is None or shown.uri != self._gateway_uri:
            return f"not the gateway: {shown.uri if shown else 'no certificate'}"
        if self.is_revoked(shown):
            return f"the machine {shown.machine} was revoked"
        known, now = self._newest.get(shown.machine), self._now()
        if now < shown.not_before - rules.SKEW:
            return f"its certificate counts from {shown.not_before.isoformat()} and it is {now.isoformat()} here"
        if now <= shown.not_after + rules.SKEW:
            if known is None or shown.not_before >= known.not_before:
                self._newest[shown.machine] = shown
            return ""
        if known is None or known.serial != shown.serial:
            return f"its certificate ended at {shown.not_after.isoformat()} and this run did not know it before"
        return ""

    def is_revoked(self, shown: Shown) -> bool:
        return any(
            refused.machine == shown.machine and rules.is_refused(shown.not_before, refused.before)
            for refused in self.refused
        )
