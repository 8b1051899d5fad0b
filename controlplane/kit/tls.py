"""TLS contexts. Every listener and every client of a site uses one of these four."""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CertificateFiles:
    """Where a process finds its own key pair and the site's CA."""

    certificate: Path
    key: Path
    ca: Path


def server_context(files: CertificateFiles, *, client_certificate: bool) -> ssl.SSLContext:
    """Serve with our certificate; with `client_certificate` only the site CA's children may connect."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.ca)
    return context


def client_context(ca: Path, files: CertificateFiles | None = None) -> ssl.SSLContext:
    """Trust the site CA alone, and show our certificate if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca)
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context


def pinned_context(certificate_pem: str, files: CertificateFiles) -> ssl.SSLContext:
    """Trust one certificate and nothing else: the peer is that very run, not its host or port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_verify_locations(cadata=certificate_pem)
    context.load_cert_chain(files.certificate, files.key)
    return context


def uri_names(certificate: dict[str, object]) -> list[str]:
    """Return the URI names of a certificate as `ssl.SSLSocket.getpeercert` gives it."""
    names = certificate.get("subjectAltName", ())
    return [value for kind, value in names if kind == "URI"] if isinstance(names, tuple) else []
