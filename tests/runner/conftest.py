"""A site in miniature: its CA, three services, the practice model."""

import hashlib
import subprocess
import sys

import pytest

from tests.runner.runs import GATEWAY, Site
from tests.runner.stand_in_api import StandInApi, stand_in_api
from tests.support.certificates import issue, make_site_ca
from tests.support.source import ROOT


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    ca = make_site_ca(folder / "tls")
    subprocess.run([sys.executable, ROOT / "images/practice/tiny_model.py", folder], check=True, capture_output=True)
    [model] = folder.glob("*.gguf")
    scratch = folder / "scratch"
    scratch.mkdir()
    return Site(
        ca_pem=ca.path.read_text(),
        api=issue(ca, "api", uri="redoubt://testsite/zone/a/service/api"),
        gateway=issue(ca, "gateway", uri=GATEWAY),
        other_service=issue(ca, "other", uri="redoubt://testsite/zone/a/service/retrieval"),
        model=model,
        model_sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        scratch=scratch,
    )


@pytest.fixture
def api(site):
    with stand_in_api(site.api, StandInApi()) as api:
        yield api
