"""The api renews its own certificates by itself, even when all of them ended while everything was off."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from controlplane.kit.issuing import Usage
from controlplane.kit.tls import CertificateFiles
from controlplane.main.own_leaves import OwnLeaves, OwnPair, names_in
from tests.support.control_plane import SITE, ControlPlane, TestClock
from tests.support.machine_listener import HOURS, SERVER, Machines, uri
from tests.support.machines import make_authority

AUTHORITY = make_authority(SITE)


def read(files: CertificateFiles) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def pair(folder: Path, age: timedelta) -> CertificateFiles:
    return Machines(folder, AUTHORITY.issuer, 0).pair(uri("service", "api"), age=age, usages=SERVER)


@pytest.mark.parametrize(("age", "renewed"), [(20 * HOURS, False), (28 * HOURS, True), (24 * 400 * HOURS, True)])
def test_a_pair_is_renewed_from_half_life_on_and_however_long_ago_it_ended(
    tmp_path: Path, age: timedelta, renewed: bool
) -> None:
    files = pair(tmp_path, age)
    before = read(files)

    OwnLeaves(AUTHORITY, (OwnPair(files, Usage.SERVER),), TestClock()).renew_due()

    fresh = read(files)
    assert (fresh != before) == renewed
    assert names_in(fresh) == names_in(before)
    if renewed:
        assert fresh.not_valid_before_utc <= datetime.now(UTC) - timedelta(minutes=4)  # others' clocks may be behind
        assert list(fresh.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
            ExtendedKeyUsageOID.SERVER_AUTH
        ]


async def test_what_was_renewed_is_on_record_once(plane: ControlPlane, admin: str, tmp_path: Path) -> None:
    own = OwnLeaves(AUTHORITY, (OwnPair(pair(tmp_path, 28 * HOURS), Usage.SERVER),), TestClock())
    own.renew_due()
    await own.record(plane.database)
    own.renew_due()
    await own.record(plane.database)

    async with plane.client(admin) as client:
        found = (await client.get("/audit-events")).json()["items"]
    assert [e["details"]["uri"] for e in found if e["event"] == "certificate.issued"] == [uri("service", "api")]
