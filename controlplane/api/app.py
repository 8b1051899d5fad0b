"""The API as an ASGI application: one for people and runners, one for machines with certificates."""

from dataclasses import dataclass, field
from typing import Any  # OpenAPI's own shape

from fastapi import APIRouter, FastAPI

from controlplane.api import oauth
from controlplane.api.errors import add_error_handlers
from controlplane.api.snapshot_watch import SnapshotWatch
from controlplane.api.v1 import (
    allocation,
    approvals,
    audit,
    budgets,
    clients,
    fleet,
    health,
    identity,
    incidents,
    jobs,
    keys,
    machines,
    people,
    pki,
    policy,
    reports,
    runs,
    scheduler,
    serving,
    shares,
    witness,
)
from controlplane.contracts.admin import Problem
from controlplane.domains.factors.service import Means
from controlplane.domains.pki.service import Authority
from controlplane.kit.tx import Database
from controlplane.web.denials import DenialCounter
from controlplane.web.limits import Guard, Limits
from controlplane.web.oidc.issuer import Issuer

PREFIX = "/api/v1"
# whatever goes wrong is told in one shape
_PROBLEM = {"content": {"application/problem+json": {"schema": Problem.model_json_schema()}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "refused; `remedy` says what to do", **_PROBLEM},
    "5XX": {"description": "a fault of ours; the log has the reason under `request_id`", **_PROBLEM},
}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Surroundings:
    """What the application is given. `gateway_token` is set on the box alone, where one listener serves all.

    `names` are the hosts it answers to; only one that `describes_itself` serves /openapi.json, and no site does.
    """

    site: str
    database: Database
    run_lease_s: float
    gateway_token: str | None
    means: Means
    names: frozenset[str] = LOOPBACK
    limits: Limits = field(default_factory=Limits)
    describes_itself: bool = False
    authority: Authority | None = None  # what issues machines' leaves; the box has none
    issuer: Issuer | None = None
    snapshot_watch: SnapshotWatch | None = None  # without one every question is answered at once
    project_slots: int = 16  # how many projects the site has users, homes and ports for


def make_admin_app(given: Surroundings) -> FastAPI:
    """Admin API and runners' calls; on the box machines' calls too."""
    routers = [
        identity.router, people.router, keys.router, fleet.router, serving.router, audit.router, incidents.router,
        runs.router, pki.router, policy.router, approvals.router, reports.router, witness.people, clients.router,
        scheduler.router, jobs.router, shares.router, budgets.router, allocation.router,
    ]  # fmt: skip
    if given.gateway_token is not None:
        routers.append(machines.router)
    app = _make_app(given, "Redoubt admin API", routers)
    app.include_router(oauth.router)
    return app


def make_machine_app(given: Surroundings) -> FastAPI:
    """Agents' and gateways' calls; the listener demands a certificate of the site CA."""
    app = _make_app(given, "Redoubt machine API", [machines.router, pki.machine_router, witness.machines])
    app.include_router(oauth.machine_router)
    return app


def _make_app(given: Surroundings, title: str, routers: list[APIRouter]) -> FastAPI:
    described = "/openapi.json" if given.describes_itself else None
    # no interactive pages: they would fetch their scripts from outside the boundary
    app = FastAPI(
        title=title, version="1", openapi_url=described, docs_url=None, redoc_url=None, responses=PROBLEMS
    )  # fmt: skip
    app.state.site = given.site
    app.state.database = given.database
    app.state.run_lease_s = given.run_lease_s
    app.state.gateway_token = given.gateway_token
    app.state.denials = DenialCounter()
    app.state.snapshot_watch = given.snapshot_watch
    app.add_middleware(Guard, names=given.names, limits=given.limits)
    app.state.authority = given.authority
    app.state.means = given.means
    app.state.project_slots = given.project_slots
    app.state.issuer = given.issuer
    app.include_router(health.router)
    for router in routers:
        app.include_router(router, prefix=PREFIX)
    add_error_handlers(app)
    return app
