"""A small site CA for tests: real certificates, real TLS, nothing trusted but these files."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from controlplane.kit.issuing import Issuer
from controlplane.kit.tls import CertificateFiles

LIFETIME = timedelta(days=2)


@dataclass(frozen=True)
class SiteCa:
    """The CA's certificate in `path`, its key in memory."""

    path: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def make_site_ca(folder: Path, name: str = "Test site CA") -> SiteCa:
    """Write `folder/ca.crt` and return what `issue` needs."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    usage = _authority_usage()
    certificate = (
        _builder(subject, subject, key, lifetime=timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ca.crt"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return SiteCa(path, key, certificate)


def make_issuer(ca: SiteCa, *, site: str | None = None) -> Issuer:
    """Return an issuing authority under the site's root; with `site` its leaves may name no other site."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test issuing authority")])
    builder = (
        _builder(subject, ca.certificate.subject, key, lifetime=timedelta(days=60))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_authority_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
    )
    if site is not None:
        permitted = [x509.UniformResourceIdentifier(site)]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    return Issuer(key, builder.sign(ca.key, hashes.SHA256()))


def write_leaf(folder: Path, name: str, ca: Path, key_pem: str, certificate_pem: str) -> CertificateFiles:
    """Write a key pair that an issuer signed, as `site_ca` lays it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = CertificateFiles(folder / f"{name}.crt", folder / f"{name}.key", ca)
    files.certificate.write_text(certificate_pem)
    files.key.write_text(key_pem)
    files.key.chmod(0o600)
    return files


def _authority_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def issue(
    ca: SiteCa,
    name: str,
    *,
    dns: tuple[str, ...] = ("localhost",),
    ip: tuple[str, ...] = ("127.0.0.1",),
    uri: str | None = None,
) -> CertificateFiles:
    """Write `<name>.crt` and `<name>.key` beside the CA; valid as server and as client, as a site's are."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.DNSName(entry) for entry in dns]
    names += [x509.IPAddress(ipaddress.ip_address(entry)) for entry in ip]
    names += [x509.UniformResourceIdentifier(uri)] if uri else []
    certificate = (
        _builder(subject, ca.certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .sign(ca.key, hashes.SHA256())
    )
    files = CertificateFiles(ca.path.with_name(f"{name}.crt"), ca.path.with_name(f"{name}.key"), ca.path)
    files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files.key.chmod(0o600)
    return files


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, lifetime: timedelta = LIFETIME
) -> x509.CertificateBuilder:
    start = datetime.now(UTC) - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lifetime)
    )
