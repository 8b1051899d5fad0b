"""Models and endpoints."""

from fastapi import APIRouter
from fastapi.responses import Response

from controlplane.api.v1.paging import Paged, rows
from controlplane.api.v1.shapes import to_endpoint, to_model
from controlplane.contracts import admin
from controlplane.domains.serving.service import endpoints
from controlplane.web.actor import Person
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["serving"])


@router.post("/models", status_code=201, response_model=admin.Model)
async def register_model(body: admin.ModelManifest, call: Posted) -> Response:
    """Make weights of the bundle known to the site."""
    return call.created(to_model(await endpoints.register_model(call.tx, call.actor, manifest=body)))


@router.get("/models")
async def list_models(tx: Transaction, actor: Person, page: Paged) -> admin.Rows[admin.Model]:
    return rows(page, await endpoints.list_models(tx, actor, page=page), to_model, lambda row: row.name)


@router.post("/endpoints", status_code=201, response_model=admin.Endpoint)
async def create_endpoint(body: admin.CreateEndpoint, call: Posted) -> Response:
    """Make an endpoint; replicas start in the background, and `wait_reason` says what they wait for."""
    view = await endpoints.create_endpoint(
        call.tx, call.actor, name=body.name, zone=body.zone, replicas=body.replicas, config=body.config,
        project=body.project, floor=body.floor, exclusive=body.exclusive,
    )  # fmt: skip
    return call.created(to_endpoint(view))


@router.get("/endpoints")
async def list_endpoints(tx: Transaction, actor: Person, page: Paged) -> admin.Rows[admin.Endpoint]:
    found = await endpoints.list_endpoints(tx, actor, page=page)
    return rows(page, found, to_endpoint, lambda view: view.endpoint.name)


@router.get("/endpoints/{name}")
async def get_endpoint(name: str, tx: Transaction, actor: Person) -> admin.Endpoint:
    return to_endpoint(await endpoints.get_endpoint(tx, actor, name=name))


@router.patch("/endpoints/{name}")
async def revise_endpoint(name: str, body: admin.ReviseEndpoint, tx: Transaction, actor: Person) -> admin.Endpoint:
    """Change the number of replicas, or roll out a new revision."""
    view = await endpoints.revise_endpoint(
        tx, actor, name=name, replicas=body.replicas, config=body.config, floor=body.floor
    )
    return to_endpoint(view)


@router.delete("/endpoints/{name}", status_code=204)
async def delete_endpoint(name: str, tx: Transaction, actor: Person) -> None:
    """End an endpoint; its replicas finish what runs."""
    await endpoints.delete_endpoint(tx, actor, name=name)
