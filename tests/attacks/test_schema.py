"""schemathesis over every operation of both applications: no 5xx, the schema kept, no stranger let in."""

import os
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

from controlplane.domains.audit.types import Role
from tests.attacks.served import Served, serving
from tests.attacks.test_route_inventory import is_open
from tests.support.database import empty

EXAMPLES = int(os.environ.get("REDOUBT_SCHEMA_EXAMPLES", "3"))  # of each operation, sound or unsound, by anybody
KEPT = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
STRANGERS = {
    "nobody": {},
    "a wrong token": {"Authorization": "Bearer rdt_" + "x" * 43},
    "a wrong scheme": {"Authorization": "Basic YWRtaW46YWRtaW4="},
    "an inference key's form": {"Authorization": "Bearer rdk_" + "x" * 43},
    "not ASCII": {"Authorization": "Bearer \xff\xfe"},
    "SQL": {"Authorization": "Bearer ' or '1'='1' --"},
}
load_all_checks()


@pytest.fixture(scope="module")
def served(database_url: str) -> Iterator[Served]:
    with serving(database_url) as made:
        made.run(empty(database_url))
        made.run(made.plane.seal())
        yield made


@pytest.fixture(scope="module")
def tokens(served: Served) -> list[str]:
    """Give tokens of people who may do, between them, all that people may."""
    roles = [
        (Role.PLATFORM_ADMIN, Role.OPERATOR), (Role.SECURITY_ADMIN, Role.DATA_STEWARD), (Role.AUDITOR,),
    ]  # fmt: skip
    staff = [served.run(served.plane.person(*held)) for held in roles]
    return [*staff, served.run(served.plane.person(Role.TENANT_ADMIN, project="blue"))]


def operations(served: Served, app: str) -> list[APIOperation]:
    described = served.plane.machine_app if app != "admin" else served.plane.admin_app
    schema = schemathesis.openapi.from_dict(described.openapi())
    return [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]


def ask(served: Served, operation: APIOperation, app: str, headers: list[dict[str, str]], *, allowed: bool) -> None:
    """Send generated requests, sound and unsound, with each of these headers; look at every answer."""
    kinds = [operation.as_strategy(mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]
    # OAuth's own RFCs say what its errors look like; tests/web/oidc holds it to them
    kept = KEPT[:1] if operation.path.startswith("/oauth/") else KEPT
    checks = list(CHECKS.get_by_names(list(kept)))

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(*kinds), credential=st.sampled_from(headers))
    def send(case, credential) -> None:
        case.headers = {k: v for k, v in (case.headers or {}).items() if k.lower() != "authorization"}
        answer = case.call(base_url=served.urls[app], session=session, headers=credential, timeout=30)
        case.validate_response(answer, checks=checks)
        if not allowed:
            assert answer.status_code >= 300, f"{operation.label} let in {credential}"

    with requests.Session() as session:
        session.trust_env = False
        send()


@pytest.mark.parametrize("app", ["admin", "machine"])
def test_no_stranger_gets_an_answer_and_nothing_falls_over(served: Served, app: str):
    for operation in operations(served, app):
        allowed = is_open(operation.method.upper(), operation.path)
        ask(served, operation, app, list(STRANGERS.values()), allowed=allowed)


def test_nothing_that_people_send_makes_a_fault_or_breaks_the_schema(served: Served, tokens: list[str]):
    for operation in operations(served, "admin"):
        ask(served, operation, "admin", [{"Authorization": f"Bearer {token}"} for token in tokens], allowed=True)


@pytest.mark.parametrize("peer", ["node", "gateway"])
def test_nothing_that_a_machine_sends_makes_a_fault_or_breaks_the_schema(served: Served, peer: str):
    for operation in operations(served, peer):
        ask(served, operation, peer, [{}], allowed=True)
