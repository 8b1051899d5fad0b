"""Models, endpoints and their replicas, as operators see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from controlplane.contracts.admin import EndpointConfig, ModelManifest
from controlplane.domains.allocation import service as allocation
from controlplane.domains.allocation.types import Ask
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.fleet import service as fleet
from controlplane.domains.policy import service as policy
from controlplane.domains.serving import rules, store
from controlplane.domains.serving.tables import Endpoint, Model, Replica, Revision
from controlplane.domains.shares.types import BUILT_IN_PROJECT, Pool
from controlplane.kit.errors import BadInput, Conflict, NotFound
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

RECENT = timedelta(hours=1)


@dataclass(frozen=True)
class EndpointView:
    """An endpoint with its current revision and the replicas of the last hour."""

    endpoint: Endpoint
    revision: Revision
    replicas: tuple[Replica, ...]


async def register_model(tx: Tx, actor: Actor, *, manifest: ModelManifest) -> Model:
    """Make weights of the bundle known. The same manifest again changes nothing; other weights need another name."""
    await policy.require(tx, actor, "model.register", manifest.name)
    known = await store.find_model(tx, manifest.name)
    if known is not None:
        if known.sha256 == manifest.sha256:
            return known
        raise Conflict(f"model {manifest.name} has other weights", remedy="register the new weights under a new name")
    # Where weights come from and what they may be used with is said in the record; further files are the bundle's.
    model = Model(**manifest.model_dump(exclude={"origin", "residency", "files"}), registered_at=tx.now)
    store.add(tx, model)
    facts = {"origin": manifest.origin, "residency": manifest.residency}
    await audit.record(tx, actor, "model.registered", manifest.name, sha256=manifest.sha256, **facts)
    return model


async def list_models(tx: Tx, actor: Actor, *, page: Page) -> Sequence[Model]:
    await policy.require(tx, actor, "model.read", "site")
    return await store.list_models(tx, page)


async def create_endpoint(
    tx: Tx, actor: Actor, *, name: str, zone: str, replicas: int, config: EndpointConfig,
    project: str = BUILT_IN_PROJECT, floor: int | None = None, exclusive: bool = False,
) -> EndpointView:  # fmt: skip
    """Make an endpoint and its first revision. Raises NotFound for model and project, Refused when it can never fit.

    `floor` replicas are never preempted, None is all of them. `exclusive` lets in its own project's keys alone.
    """
    await policy.require(tx, actor, "endpoint.create", name)
    if await store.find_endpoint(tx, name) is not None:
        raise Conflict(f"endpoint {name} exists", remedy=f"redoubt endpoint revise {name} …, or choose another name")
    zones = {node.zone for node in await fleet.view_fleet(tx)} - {""}
    if zones and zone not in zones:
        raise BadInput(f"the site has no zone {zone}", remedy=f"choose one of {', '.join(sorted(zones))}")
    if (await allocation.get_project(tx, project)).archived:
        raise Conflict(f"{project} is archived: nothing new runs there", remedy="redoubt project list")
    endpoint = Endpoint(
        id=new_id("endpoint"), name=name, zone=zone, project=project, replicas=replicas, floor=floor,
        exclusive=exclusive, revision_id="", created_at=tx.now,
    )  # fmt: skip
    revision = await _make_revision(tx, endpoint, number=1, config=config)
    endpoint.revision_id = revision.id
    store.add(tx, endpoint)
    await tx.session.flush()
    store.add(tx, revision)
    facts = {
        "name": name,
        "project": project,
        "revision": revision.id,
        "replicas": replicas,
        "floor": floor,
        "exclusive": exclusive,
    }
    await audit.record(tx, actor, "endpoint.created", endpoint.id, **facts)
    return EndpointView(endpoint, revision, ())


async def revise_endpoint(
    tx: Tx, actor: Actor, *, name: str, replicas: int | None, config: EndpointConfig | None, floor: int | None = None
) -> EndpointView:
    """Change how many replicas there are or are never preempted, or roll out a new revision.

    What serves goes on until the new one is ready.
    """
    endpoint = await _find(tx, name)
    await policy.require(tx, actor, "endpoint.revise", name)
    if replicas is not None:
        endpoint.replicas = replicas
    if floor is not None:
        endpoint.floor = floor
    if config is not None:
        number = await store.next_revision_number(tx, endpoint.id)
        revision = await _make_revision(tx, endpoint, number=number, config=config)
        store.add(tx, revision)
        endpoint.revision_id = revision.id
    await audit.record(
        tx, actor, "endpoint.revised", endpoint.id, revision=endpoint.revision_id, replicas=endpoint.replicas,
        floor=endpoint.floor,
    )  # fmt: skip
    return await _view(tx, endpoint)


async def delete_endpoint(tx: Tx, actor: Actor, *, name: str) -> Endpoint:
    """End an endpoint; its replicas finish what runs."""
    endpoint = await _find(tx, name)
    await policy.require(tx, actor, "endpoint.delete", name)
    endpoint.deleted_at = tx.now
    endpoint.replicas = 0
    await audit.record(tx, actor, "endpoint.deleted", endpoint.id, name=name)
    return endpoint


async def get_endpoint(tx: Tx, actor: Actor, *, name: str) -> EndpointView:
    await policy.require(tx, actor, "endpoint.read", name)
    return await _view(tx, await _find(tx, name))


async def list_endpoints(tx: Tx, actor: Actor, *, page: Page) -> list[EndpointView]:
    await policy.require(tx, actor, "endpoint.read", "site")
    return [await _view(tx, endpoint) for endpoint in await store.list_endpoints(tx, page)]


async def _find(tx: Tx, name: str) -> Endpoint:
    endpoint = await store.find_endpoint(tx, name)
    if endpoint is None:
        raise NotFound(f"no endpoint {name}", remedy="redoubt endpoint list")
    return endpoint


async def _view(tx: Tx, endpoint: Endpoint) -> EndpointView:
    replicas = await store.list_replicas(tx, endpoint.id, RECENT)
    return EndpointView(endpoint, await store.get_revision(tx, endpoint.revision_id), tuple(replicas))


async def _make_revision(tx: Tx, endpoint: Endpoint, *, number: int, config: EndpointConfig) -> Revision:
    model = await store.find_model(tx, config.model)
    if model is None:
        raise NotFound(f"unknown model {config.model}", remedy="redoubt model list", code="unknown_model")
    context = config.context_tokens or model.context_tokens
    if context > model.context_tokens:
        raise BadInput(
            f"{config.model} has a context of {model.context_tokens} tokens, {context} asked",
            remedy=f"ask for at most {model.context_tokens}",
        )
    memory = 0
    if config.gpus:
        memory = rules.memory_per_gpu_bytes(
            model.weights_bytes, model.kv_bytes_per_token, context, config.parallel, config.gpus
        )
        ask = Ask(config.gpus, config.gpu_type, memory, endpoint.zone)
        await allocation.require_possible(tx, share=endpoint.project, pool=Pool.INFERENCE, ask=ask)
    return Revision(
        id=new_id("revision"),
        endpoint_id=endpoint.id,
        number=number,
        model=config.model,
        adapter=config.adapter,
        gpus=config.gpus,
        gpu_type=config.gpu_type,
        gpu_memory_bytes=memory,
        context_tokens=context,
        parallel=config.parallel,
        created_at=tx.now,
    )
