"""Certificates as proof of who signed: chain, validity at a time, names."""

from base64 import b64decode, b64encode
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec


class NotTrusted(Exception):
    """A signature or a certificate that proves nothing, and why."""


def load_authority(pem: bytes) -> x509.Certificate:
    """Read the certificate of an authority; raises ValueError for anything else."""
    found = x509.load_pem_x509_certificate(pem)
    try:
        basic = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise ValueError("not the certificate of an authority") from None
    if not basic.ca:
        raise ValueError("not the certificate of an authority")
    return found


def decode_exactly(text: str) -> bytes:
    """Decode base64 that has one form only; raises NotTrusted for every other text of the same bytes."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        raise NotTrusted("no base64") from None
    if b64encode(data).decode() != text:
        raise NotTrusted("base64 in another form than it was written")
    return data


def check_certificate(
    der: bytes, authority: x509.Certificate, at: datetime, *, issuer: bytes | None = None
) -> x509.Certificate:
    """Return the certificate if the authority issued it and both were valid at that time; raises NotTrusted.

    With `issuer`, another authority stands between the two: one that may sign leaves and nothing else.
    """
    if issuer is not None:
        between = check_certificate(issuer, authority, at)
        if not _signs_leaves(between):
            raise NotTrusted("it is signed under a certificate that is no authority")
        return check_certificate(der, between, at)
    try:
        found = x509.load_der_x509_certificate(der)
        found.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise NotTrusted("the site's authority did not issue this certificate") from None
    for one, what in ((found, "certificate"), (authority, "authority")):
        if not one.not_valid_before_utc <= at <= one.not_valid_after_utc:
            raise NotTrusted(f"the {what} was not valid at {at.isoformat()}")
    return found


def _signs_leaves(certificate: x509.Certificate) -> bool:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return basic.ca and basic.path_length == 0


def uri_of(certificate: x509.Certificate) -> str:
    """Return the one URI name; raises NotTrusted for none or several."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        raise NotTrusted("the certificate names nobody") from None
    return uri


def check_signature(certificate: x509.Certificate, data: bytes, signature: bytes) -> None:
    """Raise NotTrusted unless the certificate's ECDSA key signed the data, over SHA-256."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise NotTrusted("the certificate holds no ECDSA key")
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise NotTrusted("the signature is not of these bytes") from None


def host_names(pem: bytes) -> set[str]:
    """Return the DNS names and addresses that a certificate is for; none if it names no host."""
    found = x509.load_pem_x509_certificate(pem)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return {*names.get_values_for_type(x509.DNSName), *addresses}
