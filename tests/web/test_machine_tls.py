"""The machine API over real TLS: which certificates get through, and what they open."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from controlplane.kit.issuing import IssuedLeaf, Issuer, LeafNames, Usage, make_request, read_request
from controlplane.kit.tls import CertificateFiles, client_context
from controlplane.main.api import make_server
from controlplane.main.settings import Listen, Tls
from tests.support.certificates import issue, make_issuer, make_site_ca, write_leaf
from tests.support.control_plane import SITE, ControlPlane
from tests.support.machines import site_ca

HOURS = timedelta(hours=1)
CLIENT, SERVER = frozenset({Usage.CLIENT}), frozenset({Usage.SERVER})


class Machines:
    """A machine listener on loopback, and machines with certificates of every kind."""

    def __init__(self, folder: Path, issuer: Issuer, port: int) -> None:
        self.folder, self.issuer, self.url = folder, issuer, f"https://127.0.0.1:{port}/api/v1"
        self._count = 0

    def leaf(
        self, uri: str, *, age: timedelta = HOURS, usages: frozenset[Usage] = CLIENT, by: Issuer | None = None
    ) -> CertificateFiles:
        """Write a leaf that was issued `age` ago for 48 hours."""
        self._count += 1
        key, request = make_request("")
        start = datetime.now(UTC).replace(microsecond=0) - age
        names = LeafNames("machine", ("gpu1",), ("127.0.0.1",), uri)
        made: IssuedLeaf = (by or self.issuer).issue(
            read_request(request).key, names, usages, start=start, end=start + 48 * HOURS
        )
        return write_leaf(self.folder, f"leaf{self._count}", site_ca().path, key, made.pem)

    @asynccontextmanager
    async def client(self, files: CertificateFiles | None) -> AsyncIterator[httpx.AsyncClient]:
        context = client_context(site_ca().path, files)
        async with httpx.AsyncClient(
            base_url=self.url, verify=context, trust_env=False, headers={"Host": "api"}
        ) as client:
            yield client


@pytest.fixture
async def machines(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Machines]:
    """Serve the machine API as the api process does."""
    files = issue(site_ca(), "api", uri=f"redoubt://{SITE}/zone/north/service/api")
    tls = Tls(certificate=files.certificate, key=files.key, ca=files.ca)
    server = make_server(plane.machine_app, Listen(host="127.0.0.1", port=0, tls=tls), machine=True)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it by no event
        await asyncio.sleep(0.01)
    authority = plane.machine_app.state.authority
    yield Machines(tmp_path, authority.issuer, server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    await serving


def uri(kind: str = "node", name: str = "gpu1", site: str = SITE) -> str:
    return f"redoubt://{site}/zone/north/{kind}/{name}"


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
    from cryptography import x509  # noqa: PLC0415 - only here

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
