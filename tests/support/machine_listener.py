"""The api's listeners over real TLS on loopback, and machines with certificates of every kind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from controlplane.kit.issuing import IssuedLeaf, Issuer, LeafNames, Usage, make_request, read_request
from controlplane.kit.leaf import lay_pair, pair_files
from controlplane.kit.tls import CertificateFiles, client_context
from controlplane.main.api import make_server
from controlplane.main.leaves import Leaves
from controlplane.main.settings import Listen, Tls
from tests.support.certificates import issue, write_leaf
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
        key, made = self._make(uri, age, usages, by)
        return write_leaf(self.folder, f"leaf{self._count}", site_ca().path, key, made.pem)

    def pair(self, uri: str, *, age: timedelta, usages: frozenset[Usage] = CLIENT) -> CertificateFiles:
        """Lay a pair down as a site does, so that it can be replaced."""
        self._count += 1
        folder = self.folder / f"pair{self._count}"
        folder.mkdir()
        key, made = self._make(uri, age, usages, None)
        lay_pair(folder, made.serial, key, made.pem)
        return pair_files(folder, site_ca().path)

    def sign(self, key: ec.EllipticCurvePublicKey, uri: str) -> str:
        """Return a certificate for a key, as PEM."""
        start = datetime.now(UTC).replace(microsecond=0)
        names = LeafNames("machine", ("gpu1",), ("127.0.0.1",), uri)
        return self.issuer.issue(key, names, CLIENT, start=start, end=start + 48 * HOURS).pem

    def _make(self, uri: str, age: timedelta, usages: frozenset[Usage], by: Issuer | None) -> tuple[str, IssuedLeaf]:
        key, request = make_request("")
        start = datetime.now(UTC).replace(microsecond=0) - age
        names = LeafNames("machine", ("gpu1",), ("127.0.0.1",), uri)
        made = (by or self.issuer).issue(read_request(request).key, names, usages, start=start, end=start + 48 * HOURS)
        return key, made

    @asynccontextmanager
    async def client(self, files: CertificateFiles | None) -> AsyncIterator[httpx.AsyncClient]:
        context = client_context(site_ca().path, files)
        async with httpx.AsyncClient(
            base_url=self.url, verify=context, trust_env=False, headers={"Host": "api"}
        ) as client:
            yield client


@asynccontextmanager
async def listening(plane: ControlPlane, folder: Path, *, machine: bool = True) -> AsyncIterator[Machines]:
    """Serve the machine API, or the admin API, as the api process does."""
    files = issue(site_ca(), "api", uri=f"redoubt://{SITE}/zone/north/service/api")
    tls = Tls(certificate=files.certificate, key=files.key, ca=files.ca)
    app = plane.machine_app if machine else plane.admin_app
    server = make_server(app, Listen(host="127.0.0.1", port=0, tls=tls), Leaves(), machine=machine)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it by no event
        await asyncio.sleep(0.01)
    authority = plane.machine_app.state.authority
    try:
        yield Machines(folder, authority.issuer, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await serving


def uri(kind: str = "node", name: str = "gpu1", site: str = SITE) -> str:
    return f"redoubt://{site}/zone/north/{kind}/{name}"
