"""The box's own small CA: runs and the gateway use mutual TLS on loopback as they do on a site."""

from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from controlplane.kit.clock import SystemClock

LIFETIME = timedelta(days=365)
GATEWAY_URI = "redoubt://box/zone/main/service/gateway"


def make_box_certificates(directory: Path) -> None:
    """Write ca.crt, gateway.crt and gateway.key once; the CA's own key is never written."""
    if (directory / "gateway.crt").exists():
        return
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _builder("redoubt box", "redoubt box", authority_key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    leaf = _builder("gateway", "redoubt box", key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(GATEWAY_URI)]), critical=False
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "gateway.key").touch(mode=0o600)
    (directory / "gateway.key").write_bytes(secret)
    (directory / "ca.crt").write_bytes(authority.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (directory / "gateway.crt").write_bytes(leaf.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM))


def _builder(name: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    start = SystemClock().now() - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
    )
