"""The api behind TLS on a port of its own, for programs that are not ours."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from controlplane.api.app import Surroundings, make_admin_app
from controlplane.console.app import add_console
from controlplane.kit.tls import CertificateFiles
from controlplane.main.api import make_server
from controlplane.main.leaves import Leaves
from controlplane.main.settings import Listen, Tls
from controlplane.web.oidc.issuer import Issuer
from tests.support.certificates import issue, make_site_ca
from tests.support.control_plane import SITE, ControlPlane
from tests.support.means import make_means


@dataclass(frozen=True)
class LiveSite:
    url: str
    ca: Path


@asynccontextmanager
async def live_site(plane: ControlPlane, database_url: str, folder: Path) -> AsyncIterator[LiveSite]:
    """Serve the plane's own database; its signing keys are those of the plane."""
    ca = make_site_ca(folder)
    files: CertificateFiles = issue(ca, "api")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"https://localhost:{port}"
    means = make_means(database_url, plane.clock, origin=url)
    issuer = Issuer(url, plane.admin_app.state.issuer.keys)
    app = make_admin_app(
        Surroundings(SITE, plane.database, 10.0, None, means, names=frozenset({"localhost"}), issuer=issuer)
    )
    add_console(app)
    tls = Tls(certificate=files.certificate, key=files.key, ca=files.ca)
    server = make_server(app, Listen(host="127.0.0.1", port=port, tls=tls), Leaves(), machine=False)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has a flag and no event
        await asyncio.sleep(0.01)
    try:
        yield LiveSite(url, files.ca)
    finally:
        server.should_exit = True
        await task
        await means.aside.close()
