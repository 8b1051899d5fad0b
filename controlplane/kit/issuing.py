"""An issuing authority: names are the caller's word, a request gives a public key and nothing else."""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import BadInput

MOST_REQUEST_BYTES = 8192
MADE_BY_OPENSSL = "make it with openssl req -new, an EC P-256 key and no extensions"


class Usage(StrEnum):
    """What a leaf is for; OpenSSL holds both sides of every connection to it."""

    CLIENT = "client"
    SERVER = "server"


_USAGES = {Usage.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH, Usage.SERVER: ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True)
class LeafNames:
    """Every name in a leaf. `uri` is the identity; `dns` and `ip` are for clients that check where they are."""

    common_name: str
    dns: tuple[str, ...]
    ip: tuple[str, ...]
    uri: str


@dataclass(frozen=True)
class KeyRequest:
    """What is taken from a request: its key, and the subject it asks for, to be compared and never signed."""

    key: ec.EllipticCurvePublicKey
    common_name: str

    @property
    def fingerprint(self) -> str:
        return key_fingerprint(self.key)


@dataclass(frozen=True)
class IssuedLeaf:
    """`pem` is the leaf with the certificate of its authority, as a server or client sends them."""

    certificate: x509.Certificate
    pem: str

    @property
    def serial(self) -> str:
        return serial_of(self.certificate)


class Issuer:
    """The key of an authority that may sign leaves and no further authority."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate

    @classmethod
    def load(cls, key_file: Path, certificate_file: Path) -> "Issuer":
        """Read key and certificate; raises BadInput unless they belong together and are an authority's."""
        remedy = "let the role site_ca make them: redoubt site apply SITE.YML"
        try:
            key = load_pem_private_key(key_file.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (OSError, TypeError, ValueError, x509.ExtensionNotFound) as error:
            raise BadInput(f"the issuing authority cannot be read: {error}", remedy=remedy) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise BadInput(f"{key_file} is not the key of {certificate_file}", remedy=remedy)
        if not basic.ca or basic.path_length != 0:
            raise BadInput(f"{certificate_file} is not an authority that signs leaves only", remedy=remedy)
        return cls(key, certificate)

    def issue(
        self,
        key: ec.EllipticCurvePublicKey,
        names: LeafNames,
        usages: frozenset[Usage],
        *,
        start: datetime,
        end: datetime,
    ) -> IssuedLeaf:
        """Sign a leaf; it never outlives this authority."""
        end = min(end, self.certificate.not_valid_after_utc)
        sans: list[x509.GeneralName] = [x509.DNSName(name) for name in names.dns]
        sans += [x509.IPAddress(ipaddress.ip_address(address)) for address in names.ip]
        sans.append(x509.UniformResourceIdentifier(names.uri))
        leaf = (
            x509.CertificateBuilder()
            .subject_name(_subject(names.common_name))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_only_signs(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_USAGES[usage] for usage in sorted(usages)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName(sans), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return IssuedLeaf(leaf, (_pem(leaf) + _pem(self.certificate)))


def read_request(pem: str) -> KeyRequest:
    """Read a request that proves possession of a key and asks for nothing else; raises BadInput."""
    if len(pem) > MOST_REQUEST_BYTES:
        raise BadInput("the request is too long", remedy=MADE_BY_OPENSSL)
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key, proven, extensions = request.public_key(), request.is_signature_valid, list(request.extensions)
    except (ValueError, TypeError, InvalidSignature, x509.InvalidVersion, x509.DuplicateExtension):
        raise BadInput("this is no certificate request", remedy=MADE_BY_OPENSSL) from None
    if not proven:
        raise BadInput("the request is not signed by the key that it names", remedy=MADE_BY_OPENSSL)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadInput("the request holds no EC P-256 key", remedy=MADE_BY_OPENSSL)
    others = [attribute.oid.dotted_string for attribute in request.attributes if not _is_extensions(attribute)]
    if extensions or others:
        asked = ", ".join([*(one.oid.dotted_string for one in extensions), *others])
        raise BadInput(f"the request asks for more than a key: {asked}", remedy=MADE_BY_OPENSSL, code="asks_for_more")
    names = [name.value for name in request.subject if name.oid == NameOID.COMMON_NAME]
    if len(names) != len(request.subject) or len(names) > 1:
        raise BadInput("the request asks for a subject", remedy=MADE_BY_OPENSSL, code="asks_for_more")
    return KeyRequest(key, str(names[0]) if names else "")


def make_request(common_name: str) -> tuple[str, str]:
    """Make a new P-256 key; return it and a request for it, both PEM. The subject may be empty."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return secret, request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def key_fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of a public key (its SubjectPublicKeyInfo), the same on both sides of a join."""
    return sha256_hex(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def serial_of(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"


def lasts(certificate: x509.Certificate) -> timedelta:
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


def _is_extensions(attribute: x509.Attribute) -> bool:
    return attribute.oid == x509.ObjectIdentifier("1.2.840.113549.1.9.14")  # extensionRequest, read above


def _subject(common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Redoubt"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


def _only_signs() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=False, crl_sign=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
