"""redoubt model, endpoint and ask: what is served, and whether it answers."""

import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from pydantic import ValidationError

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect, profile_of
from controlplane.client.admin import AdminClient
from controlplane.contracts import admin
from controlplane.kit.errors import BadInput, RedoubtError, Unavailable
from controlplane.kit.tls import client_context

NEWLINE = "\n"  # no backslash may stand in an f-string before Python 3.12

models = typer.Typer(no_args_is_help=True, help="AI weights that the site holds.")
endpoints = typer.Typer(no_args_is_help=True, help="Inference endpoints.")

Name = Annotated[str, typer.Argument(help="The endpoint's name, which clients send as `model`.")]
Model = Annotated[str, typer.Option(help="A registered model.")]
Gpus = Annotated[int, typer.Option(help="Whole GPUs of one replica; 0 runs on the CPU.", min=0)]
GpuType = Annotated[str, typer.Option(help='Such as h100; "" takes any one type.')]
Context = Annotated[int | None, typer.Option(help="Tokens of context; the model's own if not given.", min=1)]
Parallel = Annotated[int, typer.Option(help="Requests that one replica runs at once.", min=1)]
Adapter = Annotated[
    admin.Adapter,
    typer.Option(help="What the model does: llama_cpp completes, embed gives vectors, rerank ranks texts."),
]
Floor = Annotated[
    int | None,
    typer.Option(min=0, help="Replicas that nobody preempts; if never given, all. Others give way to guarantees."),
]
Exclusive = Annotated[
    bool,
    typer.Option(
        "--exclusive",
        help="Let in its project's keys alone; llama.cpp then reuses what it read. It cannot be changed later.",
    ),
]
Wait = Annotated[int, typer.Option(help="Wait this many seconds until all replicas are ready; 0 does not wait.", min=0)]

COLUMNS = [
    ("ENDPOINT", "name"),
    ("PROJECT", "project"),
    ("ZONE", "zone"),
    ("FLOOR", "floor"),
    ("WANTED", "replicas_wanted"),
    ("READY", "replicas_ready"),
    ("WHY NOT", "wait_reason"),
]
REPLICA_COLUMNS = [("REPLICA", "id"), ("STATE", "state"), ("NODE", "node"), ("WHY", "reason")]


@models.command("register")
def register_model(
    context: typer.Context,
    manifest: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The manifest beside the weights.")],
    *,
    as_json: Json = False,
) -> None:
    """Make weights of the bundle known to the site."""
    try:
        ask = admin.ModelManifest.model_validate_json(manifest.read_text())
    except ValidationError as error:
        raise BadInput(
            f"{manifest} is no model manifest", remedy="take the .json beside the weights", reasons=(str(error),)
        ) from None
    with connect(context) as client:
        model = client.register_model(ask)
    show_json(model.model_dump(mode="json")) if as_json else say(f"{model.name} is registered")


@models.command("list")
def list_models(context: typer.Context, *, as_json: Json = False) -> None:
    """List the models that endpoints can use."""
    columns = [
        ("MODEL", "name"),
        ("FORMAT", "format"),
        ("CONTEXT", "context_tokens"),
        ("BYTES", "size_bytes"),
        ("LICENCE", "licence"),
    ]
    with connect(context) as client:
        show(client.list_models(), columns, as_json=as_json, empty="no models; redoubt model register MANIFEST")


@endpoints.command("create")
def create_endpoint(
    context: typer.Context,
    name: Name,
    model: Model,
    zone: Annotated[str, typer.Option(help="Where it may run.")] = "main",
    replicas: Annotated[int, typer.Option(help="Running copies.", min=0)] = 1,
    gpus: Gpus = 1,
    gpu_type: GpuType = "",
    context_tokens: Context = None,
    parallel: Parallel = 4,
    adapter: Adapter = "llama_cpp",
    project: Annotated[str, typer.Option(help="Whose share its GPUs are.")] = "redoubt",
    floor: Floor = None,
    wait: Wait = 0,
    *,
    exclusive: Exclusive = False,
    as_json: Json = False,
) -> None:
    """Serve a model under a name."""
    config = admin.EndpointConfig(
        model=model, adapter=adapter, gpus=gpus, gpu_type=gpu_type, context_tokens=context_tokens, parallel=parallel
    )
    with connect(context) as client:
        ask = admin.CreateEndpoint(
            name=name, zone=zone, replicas=replicas, config=config, project=project, floor=floor, exclusive=exclusive
        )
        made = client.create_endpoint(ask)
        made = wait_ready(client, name, wait) if wait else made
    _show_one(made, as_json=as_json)


@endpoints.command("list")
def list_endpoints(context: typer.Context, *, as_json: Json = False) -> None:
    """List endpoints, and why any is not ready."""
    with connect(context) as client:
        show(
            client.list_endpoints(),
            COLUMNS,
            as_json=as_json,
            empty="no endpoints; redoubt endpoint create NAME --model M",
        )


@endpoints.command("show")
def show_endpoint(context: typer.Context, name: Name, *, as_json: Json = False) -> None:
    """Show an endpoint and its replicas of the last hour."""
    with connect(context) as client:
        _show_one(client.get_endpoint(name), as_json=as_json)


@endpoints.command("scale")
def scale_endpoint(
    context: typer.Context,
    name: Name,
    replicas: Annotated[int, typer.Argument(min=0)],
    floor: Floor = None,
    wait: Wait = 0,
    *,
    as_json: Json = False,
) -> None:
    """Change the number of replicas, and how many of them nobody preempts; surplus ones finish what they run."""
    with connect(context) as client:
        done = client.revise_endpoint(name, admin.ReviseEndpoint(replicas=replicas, floor=floor))
        done = wait_ready(client, name, wait) if wait else done
    _show_one(done, as_json=as_json)


@endpoints.command("revise")
def revise_endpoint(
    context: typer.Context,
    name: Name,
    model: Model,
    gpus: Gpus = 1,
    gpu_type: GpuType = "",
    context_tokens: Context = None,
    parallel: Parallel = 4,
    adapter: Adapter = "llama_cpp",
    wait: Wait = 0,
    *,
    as_json: Json = False,
) -> None:
    """Roll out a new revision; the old one serves until the new one is ready."""
    config = admin.EndpointConfig(
        model=model, adapter=adapter, gpus=gpus, gpu_type=gpu_type, context_tokens=context_tokens, parallel=parallel
    )
    with connect(context) as client:
        done = client.revise_endpoint(name, admin.ReviseEndpoint(config=config))
        done = wait_ready(client, name, wait) if wait else done
    _show_one(done, as_json=as_json)


@endpoints.command("delete")
def delete_endpoint(context: typer.Context, name: Name) -> None:
    """End an endpoint; its replicas finish what they run."""
    with connect(context) as client:
        client.delete_endpoint(name)
    say(f"{name} is deleted; its replicas drain")


def ask(
    context: typer.Context,
    endpoint: Name,
    question: Annotated[str, typer.Argument()],
    key: Annotated[str, typer.Option(help="An inference key, rdk_….", envvar="REDOUBT_KEY")],
    max_tokens: Annotated[int, typer.Option(min=1)] = 64,
    *,
    as_json: Json = False,
) -> None:
    """Ask an endpoint a question through the gateway."""
    profile = profile_of(context)
    answer = ask_gateway(profile.gateway_url, profile.ca, key, endpoint, question, max_tokens)
    show_json({"endpoint": endpoint, "answer": answer}) if as_json else say(answer)


@endpoints.command("explain-route")
def explain_route(
    context: typer.Context,
    endpoint: Name,
    question: Annotated[str, typer.Argument()],
    key: Annotated[str, typer.Option(help="An inference key, rdk_….", envvar="REDOUBT_KEY")],
    run: Annotated[str, typer.Option(help="The agent run that the question is a part of.")] = "",
    *,
    as_json: Json = False,
) -> None:
    """Say which replica would answer a question now, and why. Nothing is sent to it."""
    profile = profile_of(context)
    body = {"model": endpoint, "messages": [{"role": "user", "content": question}]}
    headers = {"X-Redoubt-Run": run} if run else {}
    found = _post_gateway(profile.gateway_url, profile.ca, key, "explain-route", body, headers)
    if as_json:
        show_json(found)
        return
    say(f"{found['chosen'] or 'none'}: {found['because']}")
    for one in found["candidates"]:
        why = "; ".join(one.get("reasons", ())) or "-"
        costs = f"costs {one['cost_bytes']}, " if "cost_bytes" in one else ""
        say(f"  {one['replica']}: {costs}holds {one['held_bytes']}, runs {one['running']}; {why}")


def ask_gateway(url: str, ca: str, key: str, endpoint: str, question: str, max_tokens: int) -> str:
    """Return one chat answer; raises Unavailable with the gateway's own words."""
    body = {"model": endpoint, "messages": [{"role": "user", "content": question}], "max_tokens": max_tokens}
    return str(_post_gateway(url, ca, key, "chat/completions", body)["choices"][0]["message"]["content"])


def _post_gateway(
    url: str, ca: str, key: str, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> dict[str, Any]:  # JSON, whatever it holds
    if not url:
        raise BadInput("the gateway's address is not known", remedy="redoubt enrol … --gateway-url https://ctl1:9443")
    headers = {"Authorization": f"Bearer {key}", **(headers or {})}
    try:
        with httpx.Client(verify=client_context(Path(ca)) if ca else True, timeout=120, trust_env=False) as http:
            reply = http.post(f"{url}/v1/{path}", json=body, headers=headers)
    except httpx.HTTPError as error:
        raise Unavailable(f"no answer from the gateway: {error}", remedy="redoubt endpoint list") from None
    if reply.is_error:
        raise Unavailable(f"the gateway says {reply.status_code}: {reply.text}", remedy="redoubt endpoint list")
    answer: dict[str, Any] = reply.json()
    return answer


def wait_ready(client: AdminClient, name: str, seconds: int) -> admin.Endpoint:
    """Return the endpoint once all its replicas are ready; raises Unavailable with what it waits for."""
    ends_at = time.monotonic() + seconds
    while True:
        found = client.get_endpoint(name)
        current = [r for r in found.replicas if r.revision_id == found.revision.id]
        if sum(replica.state == "ready" for replica in current) >= found.replicas_wanted:
            return found
        if time.monotonic() > ends_at:
            raise _not_ready(found, seconds)
        time.sleep(0.3)


def _not_ready(found: admin.Endpoint, seconds: int) -> RedoubtError:
    newest = found.replicas[-3:]
    reasons = tuple(f"{r.id}: {r.state} {r.reason.strip().rpartition(NEWLINE)[2]}".strip() for r in newest)
    return Unavailable(
        f"{found.name} is not ready after {seconds} s: {found.replicas_ready} of {found.replicas_wanted}",
        remedy=f"redoubt endpoint show {found.name}",
        reasons=(found.wait_reason, *reasons) if found.wait_reason else reasons,
    )


def _show_one(found: admin.Endpoint, *, as_json: bool) -> None:
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    show([found], COLUMNS, as_json=False, empty="")
    show(found.replicas, REPLICA_COLUMNS, as_json=False, empty="no replicas yet")
