"""A node believes nothing of its depot: requirements must be those of the signed manifest, over the site's TLS."""

import http.server
import ssl
import threading
from functools import partial

import pytest

from tests.support.ansible import run_module
from tests.support.bundles import SmallBundle
from tests.support.certificates import issue, make_site_ca


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


@pytest.fixture
def bundle(tmp_path):
    made = SmallBundle(tmp_path / "made")
    made.write("requirements/agent.txt", b"tool==1 --hash=sha256:" + b"0" * 64 + b"\n")
    made.digest = made.seal()
    return made


@pytest.fixture
def depot(bundle, tmp_path):
    """An HTTPS server of the bundle's folder with a certificate of the site's authority; (address, authority)."""
    authority = make_site_ca(tmp_path / "ca")
    files = issue(authority, "depot")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(bundle.folder)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}", authority.path
    server.shutdown()
    server.server_close()


def install(bundle, depot, tmp_path, **given):
    url, authority = depot
    wanted = {
        "path": str(tmp_path / "venv"), "depot_url": url, "authority": str(authority), "bundle": bundle.digest,
        "features": ["agent"], "pip_wheels": str(tmp_path),
    }  # fmt: skip
    return run_module("depot_python", {**wanted, **given})


@pytest.mark.parametrize("name", ["requirements/agent.txt", "bundle.json"])
def test_a_file_of_the_depot_that_is_not_the_signed_one_stops_the_install(bundle, depot, tmp_path, name):
    path = bundle.folder / name
    path.write_bytes(path.read_bytes().replace(b"tool", b"rogue", 1) + b" ")

    answer = install(bundle, depot, tmp_path)

    assert f"{name} is not the file of the signed bundle" in answer["msg"]
    assert not (tmp_path / "venv").exists()


def test_requirements_that_the_manifest_does_not_name_are_refused(bundle, depot, tmp_path):
    (bundle.folder / "requirements/rogue.txt").write_text("rogue==1\n")

    answer = install(bundle, depot, tmp_path, features=["rogue"])

    assert "requirements/rogue.txt is not the file of the signed bundle" in answer["msg"]


def test_a_depot_with_a_certificate_of_another_authority_is_not_asked(bundle, depot, tmp_path):
    other = make_site_ca(tmp_path / "other")

    answer = install(bundle, depot, tmp_path, authority=str(other.path))

    assert "does not answer" in answer["msg"]
    assert "CERTIFICATE_VERIFY_FAILED" in answer["msg"]
