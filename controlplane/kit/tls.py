"""TLS contexts. Every listener and every client of a site uses one of these."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from controlplane.kit.crypto import SelfSigned

# X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h); Python has no name for it. Chain, names and purpose are still checked.
NO_CHECK_TIME = 0x200000


@dataclass(frozen=True)
class CertificateFiles:
    """Where a process finds its own key pair and the site's CA."""

    certificate: Path
    key: Path
    ca: Path


def server_context(files: CertificateFiles, *, client_certificate: bool, check_time: bool = True) -> ssl.SSLContext:
    """Serve with our certificate; with `client_certificate` only the site CA's children may connect.

    Without `check_time` a client certificate that lapsed gets through TLS: what it is still good for, the application
    decides at every request.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.ca)
    if not check_time:
        context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
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
    """Trust one certificate and nothing else: the peer is that very run, not its host or port.

    Its dates say nothing: how long it counts, the signed snapshot says that names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    context.load_verify_locations(cadata=certificate_pem)
    context.load_cert_chain(files.certificate, files.key)
    return context


def run_server_context(own: SelfSigned, ca_pem: str) -> ssl.SSLContext:
    """Serve with a key that never touches a disk; only the site CA's children may connect.

    One that lapsed gets through TLS: whether it is still the gateway's, the relay decides.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    context.load_verify_locations(cadata=ca_pem)
    load_pair(context, own.key_pem + own.certificate_pem)
    return context


def load_pair(context: ssl.SSLContext, pem: bytes) -> None:
    """Have a context show a key and its chain, given as bytes; raises ssl.SSLError when they are no pair."""
    memory = os.memfd_create("pair")  # OpenSSL's file interface is the only one that Python offers
    try:
        os.write(memory, pem)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)


def run_client_context(ca_pem: str) -> ssl.SSLContext:
    """Trust the site CA alone, as a run knows it: by value."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca_pem)
    return context
