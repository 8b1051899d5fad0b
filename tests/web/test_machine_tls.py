"""The machine API over real TLS: which certificates get through, and what they open."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from controlplane.kit.issuing import Issuer, make_request
from controlplane.kit.tls import CertificateFiles, client_context
from tests.support.certificates import issue, make_issuer, make_site_ca
from tests.support.control_plane import ControlPlane
from tests.support.machine_listener import CLIENT, HOURS, SERVER, Machines, listening, uri
from tests.support.machines import site_ca


@pytest.fixture
async def machines(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Machines]:
    async with listening(plane, tmp_path) as found:
        yield found


async def ask_renewal(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/agent/certificates", json={"request_pem": make_request("")[1]})


async def is_shut_out(machines: Machines, files: CertificateFiles | None) -> bool:
    """Say whether TLS itself ends the connection; with TLS 1.3 the client may learn it at its first read."""
    async with machines.client(files) as client:
        try:
            await client.get("/gateway/snapshot")
        except httpx.TransportError:
            return True
    return False


async def test_a_leaf_under_the_issuing_authority_gets_through_with_the_root_alone_trusted(machines: Machines) -> None:
    async with machines.client(machines.leaf(uri(), age=25 * HOURS)) as client:
        answer = await ask_renewal(client)

    assert answer.status_code == httpx.codes.OK, answer.text


async def test_without_a_certificate_of_the_site_nobody_gets_through(machines: Machines, tmp_path: Path) -> None:
    stranger = issue(make_site_ca(tmp_path / "other"), "stranger", uri=uri())

    assert await is_shut_out(machines, None)
    assert await is_shut_out(machines, CertificateFiles(stranger.certificate, stranger.key, site_ca().path))


async def test_a_servers_certificate_is_no_clients(machines: Machines) -> None:
    assert await is_shut_out(machines, machines.leaf(uri(), usages=SERVER))


async def test_a_leaf_signs_no_leaves(machines: Machines) -> None:
    parent = machines.leaf(uri("service", "gateway"))
    key = load_pem_private_key(parent.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    first = parent.certificate.read_bytes()
    forger = Issuer(key, x509.load_pem_x509_certificate(first))
    forged = machines.leaf(uri(), by=forger)
    forged.certificate.write_text(forged.certificate.read_text() + first.decode())

    assert await is_shut_out(machines, forged)


async def test_an_issuing_authority_of_this_site_cannot_name_a_machine_of_another(machines: Machines) -> None:
    elsewhere = uri(site="elsewhere")
    unbound = make_issuer(site_ca())

    assert await is_shut_out(machines, machines.leaf(elsewhere))
    assert not await is_shut_out(machines, machines.leaf(elsewhere, by=unbound))  # shows that the constraint did it


async def test_a_lapsed_leaf_gets_through_tls_for_its_renewal_alone(machines: Machines) -> None:
    async with machines.client(machines.leaf(uri("service", "gateway"), age=60 * HOURS)) as client:
        locked, renewed = await client.get("/gateway/snapshot"), await ask_renewal(client)

    assert (locked.status_code, locked.json()["code"]) == (401, "certificate_expired")
    assert renewed.status_code == httpx.codes.OK


async def test_an_open_connection_is_refused_from_the_moment_of_its_nodes_revocation(
    plane: ControlPlane, machines: Machines, admin: str
) -> None:
    async with machines.client(machines.leaf(uri("service", "gateway"))) as client:
        before = await client.get("/gateway/snapshot")
        async with plane.client(admin) as person:
            await person.post("/nodes/gpu1/revocations", json={"reason": "stolen disk"})
        after = await client.get("/gateway/snapshot")

    assert (before.status_code, after.status_code) == (204, 401)
    assert after.json()["code"] == "node_revoked"


async def test_an_ordinary_listener_still_refuses_a_lapsed_certificate(machines: Machines, tmp_path: Path) -> None:
    """What the machine listener alone overlooks, no other context of ours does."""
    lapsed = machines.leaf(uri(), age=60 * HOURS, usages=CLIENT | SERVER)
    context = client_context(site_ca().path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(lapsed.certificate, lapsed.key)
    incoming, outgoing = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    client_side = context.wrap_bio(outgoing[0], incoming[0], server_hostname="127.0.0.1")
    server_side = server.wrap_bio(incoming[0], outgoing[0], server_side=True)

    for side in (client_side, server_side):
        with pytest.raises(ssl.SSLWantReadError):
            side.do_handshake()

    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        client_side.do_handshake()
