"""Machines come in by token, renew by certificate, and are put out: through ASGI over a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controlplane.domains.pki.types import LeafTerms
from controlplane.kit.certificates import uri_of
from controlplane.kit.issuing import make_request
from controlplane.web.peer import Peer
from tests.support.control_plane import SITE, ControlPlane, _as_peer
from tests.support.machines import HOST, make_authority, make_leaf

NODES = {
    "nodes": [
        {"name": name, "address": f"10.0.0.{number}", "zone": "north", "purposes": [], "gpus": []}
        for number, name in enumerate(("gpu1", "gpu2", HOST), start=1)
    ]
}
OTHER_NAMES = [
    x509.DNSName("gpu2"),
    x509.UniformResourceIdentifier(f"redoubt://{SITE}/zone/south/node/gpu2"),
    x509.UniformResourceIdentifier(f"redoubt://{SITE}/zone/north/service/gateway"),
]


@pytest.fixture
async def declared(plane: ControlPlane, admin: str) -> str:
    """Give an administrator's key; the nodes are declared."""
    async with plane.client(admin) as client:
        assert (await client.put("/nodes", json=NODES)).status_code == httpx.codes.OK
    return admin


async def token_for(plane: ControlPlane, key: str, node: str = "gpu1") -> str:
    async with plane.client(key) as client:
        made = await client.post(f"/nodes/{node}/join-tokens")
    assert made.status_code == httpx.codes.CREATED, made.text
    return str(made.json()["token"])


async def join(plane: ControlPlane, token: str, request_pem: str | None = None) -> httpx.Response:
    request_pem = request_pem or make_request("gpu1")[1]
    async with plane.client() as client:
        return await client.post("/node-joins", json={"token": token, "request_pem": request_pem})


@asynccontextmanager
async def machine(
    plane: ControlPlane, kind: str = "node", name: str = "gpu1", *, age: timedelta
) -> AsyncIterator[httpx.AsyncClient]:
    """Speak to the machine API with a leaf that was issued `age` ago for 48 hours."""
    shown = make_leaf(kind, name, now=plane.clock.now(), age=age)
    transport = httpx.ASGITransport(_as_peer(plane.machine_app, Peer(SITE, shown.zone, kind, name, shown)))
    async with httpx.AsyncClient(transport=transport, base_url="http://api/api/v1", trust_env=False) as client:
        yield client


async def renew(client: httpx.AsyncClient, request_pem: str | None = None) -> httpx.Response:
    return await client.post("/agent/certificates", json={"request_pem": request_pem or make_request("")[1]})


async def events(plane: ControlPlane, key: str) -> list[tuple[str, str]]:
    async with plane.client(key) as client:
        found = (await client.get("/audit-events")).json()["items"]
    return [(event["event"], event["resource"]) for event in reversed(found)]


def leaf_of(answer: httpx.Response) -> x509.Certificate:
    return x509.load_pem_x509_certificate(answer.json()["certificate_pem"].encode())


def sans(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def crafted(*, common_name: str = "", extensions: tuple[x509.ExtensionType, ...] = (), key=None) -> str:
    """Return a request that asks for what it should not."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


GREEDY = {
    "another node's name": crafted(common_name="gpu2"),
    "another node's and zone's names": crafted(extensions=(x509.SubjectAlternativeName(OTHER_NAMES),)),
    "to be an authority": crafted(extensions=(x509.BasicConstraints(ca=True, path_length=None),)),
    "to sign certificates": crafted(
        extensions=(x509.KeyUsage(True, False, False, False, False, True, True, False, False),)
    ),
    "to be a server": crafted(extensions=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),)),
    "an RSA key": crafted(key=rsa.generate_private_key(65537, 2048)),
    "a P-384 key": crafted(key=ec.generate_private_key(ec.SECP384R1())),
}


async def test_a_machine_joins_with_the_name_and_zone_of_its_token(plane: ControlPlane, declared: str) -> None:
    answer = await join(plane, await token_for(plane, declared))

    leaf = leaf_of(answer)
    assert answer.status_code == httpx.codes.OK
    assert sans(leaf) == {"gpu1", "10.0.0.1", f"redoubt://{SITE}/zone/north/node/gpu1"}
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(hours=48)


@pytest.mark.parametrize("ask", GREEDY.values(), ids=GREEDY)
async def test_a_request_that_asks_for_more_gets_nothing_and_does_not_spend_the_token(
    plane: ControlPlane, declared: str, ask: str
) -> None:
    """OCM CVE-2026-4740: who a node is was taken from its request."""
    token = await token_for(plane, declared)

    refused = await join(plane, token, ask)

    assert refused.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert "BEGIN CERTIFICATE-" not in refused.text
    assert (await join(plane, token)).status_code == httpx.codes.OK


@pytest.mark.parametrize("ask", GREEDY.values(), ids=GREEDY)
async def test_a_renewal_that_asks_for_more_gets_nothing(plane: ControlPlane, ask: str) -> None:
    async with machine(plane, age=timedelta(hours=25)) as client:
        refused = await renew(client, ask)

    assert refused.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert "BEGIN CERTIFICATE" not in refused.text


async def test_a_request_that_another_key_signed_is_refused(plane: ControlPlane, declared: str) -> None:
    own = x509.load_pem_x509_csr(make_request("gpu1")[1].encode()).public_bytes(Encoding.DER)
    broken = own[:-1] + bytes([own[-1] ^ 1])
    pem = x509.load_der_x509_csr(broken).public_bytes(Encoding.PEM).decode()

    assert (await join(plane, await token_for(plane, declared), pem)).status_code == 422


async def test_of_six_machines_with_one_token_one_comes_in(plane: ControlPlane, declared: str) -> None:
    token = await token_for(plane, declared)

    answers = await asyncio.gather(*(join(plane, token) for _ in range(6)))

    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401, 401]


async def test_the_machine_that_spent_the_token_gets_the_same_answer_again(plane: ControlPlane, declared: str) -> None:
    token, request = await token_for(plane, declared), make_request("gpu1")[1]

    first, again = await join(plane, token, request), await join(plane, token, request)

    assert first.json() == again.json()


async def test_a_token_counts_for_one_hour_and_a_newer_one_replaces_it(plane: ControlPlane, declared: str) -> None:
    first, second = await token_for(plane, declared), await token_for(plane, declared)
    assert (await join(plane, first)).status_code == httpx.codes.UNAUTHORIZED

    plane.clock.move(3601)

    assert (await join(plane, second)).status_code == httpx.codes.UNAUTHORIZED


async def test_there_is_no_token_for_a_node_that_the_spec_does_not_declare(plane: ControlPlane, declared: str) -> None:
    async with plane.client(declared) as client:
        assert (await client.post("/nodes/gpu9/join-tokens")).status_code == httpx.codes.NOT_FOUND


async def test_no_join_token_is_in_the_database(plane: ControlPlane, declared: str) -> None:
    from sqlalchemy import text  # noqa: PLC0415 - only here

    token = await token_for(plane, declared)
    async with plane.database.transaction() as tx:
        kept = (await tx.session.execute(text("select join_tokens::text from join_tokens"))).scalars().all()

    assert len(kept) == 1
    assert token[4:] not in kept[0]


async def test_where_a_person_must_approve_the_fingerprint_decides(plane: ControlPlane, declared: str) -> None:
    plane.admin_app.state.authority = make_authority(SITE, LeafTerms(joins_need_approval=True))
    token, request = await token_for(plane, declared), make_request("gpu1")[1]

    waiting = await join(plane, token, request)
    async with plane.client(declared) as client:
        (pending,) = (await client.get("/node-joins")).json()["items"]
        path = f"/node-joins/{pending['id']}/approval"
        wrong = await client.post(path, json={"fingerprint": "0" * 64})
        right = await client.post(path, json={"fingerprint": waiting.json()["fingerprint"]})
    answer = await join(plane, token, request)

    assert (waiting.status_code, waiting.json()["certificate_pem"]) == (202, "")
    assert (wrong.status_code, right.status_code) == (409, 201)
    assert uri_of(leaf_of(answer)) == f"redoubt://{SITE}/zone/north/node/gpu1"


async def test_a_join_that_was_refused_stays_outside(plane: ControlPlane, declared: str) -> None:
    plane.admin_app.state.authority = make_authority(SITE, LeafTerms(joins_need_approval=True))
    token, request = await token_for(plane, declared), make_request("gpu1")[1]
    waiting = await join(plane, token, request)
    async with plane.client(declared) as client:
        assert (await client.delete(f"/node-joins/{waiting.json()['id']}")).status_code == httpx.codes.OK

    assert (await join(plane, token, request)).status_code == httpx.codes.FORBIDDEN


@pytest.mark.parametrize(("kind", "name", "node"), [("node", "gpu1", "gpu1"), ("service", "gateway", HOST)])
async def test_a_successor_has_the_names_of_the_leaf_that_was_shown(
    plane: ControlPlane, kind: str, name: str, node: str
) -> None:
    async with machine(plane, kind, name, age=timedelta(hours=25)) as client:
        answer = await renew(client)

    assert answer.status_code == httpx.codes.OK, answer.text
    assert sans(leaf_of(answer)) == {node, "10.0.0.1", f"redoubt://{SITE}/zone/north/{kind}/{name}"}


async def test_other_services_do_not_renew_here(plane: ControlPlane) -> None:
    async with machine(plane, "service", "postgres", age=timedelta(hours=25)) as client:
        assert (await renew(client)).status_code == httpx.codes.FORBIDDEN


async def test_a_young_leaf_has_no_successor_yet(plane: ControlPlane) -> None:
    async with machine(plane, age=timedelta(hours=11)) as client:
        answer = await renew(client)

    assert (answer.status_code, answer.json()["code"]) == (409, "not_due")


async def test_a_lapsed_leaf_opens_nothing_but_its_own_renewal_and_that_is_on_record(
    plane: ControlPlane, declared: str
) -> None:
    async with machine(plane, "service", "gateway", age=timedelta(hours=60)) as client:
        locked = await client.get("/gateway/snapshot")
        renewed = await renew(client)

    assert (locked.status_code, locked.json()["code"]) == (401, "certificate_expired")
    assert renewed.status_code == httpx.codes.OK
    async with plane.client(declared) as client:
        found = (await client.get("/audit-events")).json()["items"]
    assert [e["details"]["cause"] for e in found if e["event"] == "certificate.issued"] == ["late-renewal"]


async def test_after_the_grace_only_a_new_token_helps(plane: ControlPlane) -> None:
    async with machine(plane, age=timedelta(days=17)) as client:
        answer = await renew(client)

    assert (answer.status_code, answer.json()["code"]) == (401, "certificate_expired")
    assert "join-token" in answer.json()["remedy"]


@pytest.mark.parametrize(("ahead", "status"), [(timedelta(minutes=4), 204), (timedelta(minutes=6), 401)])
async def test_a_leaf_from_a_clock_that_is_a_little_ahead_counts_and_a_wrong_clock_is_named(
    plane: ControlPlane, ahead: timedelta, status: int
) -> None:
    async with machine(plane, "service", "gateway", age=-ahead) as client:
        answer = await client.get("/gateway/snapshot")

    assert answer.status_code == status
    assert status == 204 or answer.json()["code"] == "certificate_early"


async def test_a_revoked_node_is_out_at_once_with_its_services_and_may_not_renew(
    plane: ControlPlane, declared: str
) -> None:
    async with machine(plane, "service", "gateway", age=timedelta(hours=25)) as client:
        assert (await client.get("/gateway/snapshot")).status_code == httpx.codes.NO_CONTENT
        async with plane.client(declared) as admin:
            done = await admin.post(f"/nodes/{HOST}/revocations", json={"reason": "stolen disk"})
        refused, not_renewed = await client.get("/gateway/snapshot"), await renew(client)

    assert done.status_code == httpx.codes.CREATED
    assert (refused.status_code, refused.json()["code"]) == (401, "node_revoked")
    assert (not_renewed.status_code, not_renewed.json()["code"]) == (401, "node_revoked")
    assert ("node.revoked", HOST) in await events(plane, declared)


async def test_a_revocation_ends_tokens_and_joins_that_wait(plane: ControlPlane, declared: str) -> None:
    plane.admin_app.state.authority = make_authority(SITE, LeafTerms(joins_need_approval=True))
    token, request = await token_for(plane, declared), make_request("gpu1")[1]
    await join(plane, token, request)
    unused = await token_for(plane, declared)
    async with plane.client(declared) as client:
        await client.post("/nodes/gpu1/revocations", json={"reason": "lost"})

    assert (await join(plane, unused)).status_code == httpx.codes.UNAUTHORIZED
    assert (await join(plane, token, request)).status_code == httpx.codes.FORBIDDEN


async def test_a_new_token_lets_a_revoked_node_in_again_and_its_old_leaves_stay_out(
    plane: ControlPlane, declared: str
) -> None:
    old = make_leaf("node", "gpu1", now=plane.clock.now(), age=timedelta(minutes=1))
    async with plane.client(declared) as client:
        await client.post("/nodes/gpu1/revocations", json={"reason": "lost"})
    plane.clock.move(60)

    joined = await join(plane, await token_for(plane, declared))

    assert joined.status_code == httpx.codes.OK
    async with machine(plane, age=timedelta(0)) as fresh:
        assert (await renew(fresh)).json()["code"] == "not_due"
    transport = httpx.ASGITransport(_as_peer(plane.machine_app, Peer(SITE, "north", "node", "gpu1", old)))
    async with httpx.AsyncClient(transport=transport, base_url="http://api/api/v1", trust_env=False) as client:
        assert (await renew(client)).json()["code"] == "node_revoked"
    assert ("node.readmitted", "gpu1") in await events(plane, declared)


async def test_revoking_twice_is_one_revocation(plane: ControlPlane, declared: str) -> None:
    async with plane.client(declared) as client:
        asks = [client.post("/nodes/gpu1/revocations", json={"reason": f"try {n}"}) for n in range(6)]
        answers = await asyncio.gather(*asks)
        listed = (await client.get("/node-revocations")).json()["items"]

    assert [answer.status_code for answer in answers] == [201] * 6
    assert len(listed) == 1
    told = await events(plane, declared)
    assert (told.count(("node.revoked", "gpu1")), told.count(("node.revoked_again", "gpu1"))) == (1, 5)


async def test_a_second_revocation_ends_tokens_and_joins_that_were_made_since_the_first(
    plane: ControlPlane, declared: str
) -> None:
    plane.admin_app.state.authority = make_authority(SITE, LeafTerms(joins_need_approval=True))
    async with plane.client(declared) as client:
        await client.post("/nodes/gpu1/revocations", json={"reason": "lost"})
        token, request = await token_for(plane, declared), make_request("gpu1")[1]
        await join(plane, token, request)
        unused = await token_for(plane, declared)
        await client.post("/nodes/gpu1/revocations", json={"reason": "still lost"})

    assert (await join(plane, unused)).status_code == httpx.codes.UNAUTHORIZED
    assert (await join(plane, token, request)).status_code == httpx.codes.FORBIDDEN


async def test_a_leaf_of_another_site_is_nobody(plane: ControlPlane) -> None:
    async with plane.machine("node", "gpu1", site="elsewhere") as client:
        assert (await renew(client)).status_code == httpx.codes.UNAUTHORIZED
