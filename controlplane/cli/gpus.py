"""redoubt gpu: what GPUs there are, where they sit, and which take no new work."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Annotated, Any  # Any: JSON has no narrower type

import typer
from rich.markup import escape
from rich.tree import Tree

from controlplane.cli.screen import STATE_STYLES, Json, say, show, show_json, show_trees
from controlplane.cli.session import connect
from controlplane.client.admin import AdminClient
from controlplane.contracts import admin
from controlplane.kit.errors import BadInput, NotFound

gpus = typer.Typer(
    no_args_is_help=True, help="GPUs as the nodes report them; cordon those that shall take no new work."
)

GIB = 1024**3
COLUMNS = [
    ("NODE", "node"), ("GPU", "index"), ("TYPE", "type"), ("GIB", "size"), ("NUMA", "numa"), ("ISLAND", "island"),
    ("MIG", "mig"), ("STATE", "state"), ("OWNER", "owner"), ("CORDON", "why"), ("UUID", "uuid"),
]  # fmt: skip
Which = Annotated[str, typer.Argument(metavar="GPU", help="UUID, the beginning of one, or NODE:INDEX.")]


@gpus.command("list")
def list_gpus(
    context: typer.Context,
    *,
    node: Annotated[str, typer.Option("--node", help="Only this node's.")] = "",
    as_json: Json = False,
) -> None:
    """List every GPU that was ever reported, with its state."""
    with connect(context) as client:
        found = [gpu for gpu in client.list_gpus() if node in ("", gpu.node)]
    if as_json:
        show_json([gpu.model_dump(mode="json") for gpu in found])
        return
    show([_line(gpu) for gpu in found], COLUMNS, as_json=False, empty="no node reports a GPU")


@gpus.command("show")
def show_gpu(context: typer.Context, which: Which, *, as_json: Json = False) -> None:
    """Show all that is known of one GPU."""
    with connect(context) as client:
        found = client.get_gpu(_find(client, which).uuid)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    for field, value in _facts(found).items():
        say(f"{field:<24} {value}")


@gpus.command("cordon")
def cordon_gpu(
    context: typer.Context,
    which: Which,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; whoever looks next reads it.")],
    as_json: Json = False,
) -> None:
    """Let a GPU take no new work; what runs on it finishes."""
    with connect(context) as client:
        done = client.cordon_gpu(_find(client, which).uuid, admin.CordonGpu(reason=reason))
    if as_json:
        show_json(done.model_dump(mode="json"))
        return
    busy = f"; {done.owner} runs on it until it ends" if done.owner else ""
    say(f"{done.uuid} on {done.node} takes no new work{busy}")


@gpus.command("uncordon")
def uncordon_gpu(context: typer.Context, which: Which, *, as_json: Json = False) -> None:
    """Let a GPU take work again."""
    with connect(context) as client:
        done = client.uncordon_gpu(_find(client, which).uuid)
    if as_json:
        show_json(done.model_dump(mode="json"))
    else:
        say(f"{done.uuid} on {done.node} takes work")


@gpus.command("tree")
def show_tree(
    context: typer.Context,
    *,
    node: Annotated[str, typer.Option("--node", help="Only this node.")] = "",
    as_json: Json = False,
) -> None:
    """Draw node, NUMA node, NVLink island and GPU, with state, owner and cordon."""
    with connect(context) as client:
        nodes = [found for found in client.list_nodes() if found.gpus and node in ("", found.name)]
    if as_json:
        show_json([_branch(found) for found in nodes])
    elif nodes:
        show_trees(_draw(found) for found in nodes)
    else:
        say("no node reports a GPU; redoubt node list")


def _find(client: AdminClient, which: str) -> admin.Gpu:
    """Return the one GPU that is meant; raises NotFound or BadInput."""
    every = list(client.list_gpus())
    node, colon, index = which.rpartition(":")
    if colon:
        found = [gpu for gpu in every if (gpu.node, str(gpu.index), gpu.state) == (node, index, "present")]
    else:
        found = [gpu for gpu in every if gpu.uuid == which] or [gpu for gpu in every if gpu.uuid.startswith(which)]
    if not found:
        raise NotFound(f"no GPU is called {which}", remedy="redoubt gpu list")
    if len(found) > 1:
        raise BadInput(f"{which} is the beginning of {len(found)} UUIDs", remedy=f"name more of it: {found[0].uuid}")
    return found[0]


def _facts(gpu: admin.GpuDetail) -> dict[str, str]:
    known = gpu.model_dump(mode="json", exclude={"reading", "cordon"}) | {"cordon": _cordon(gpu)}
    told = {f"reading.{name}": value for name, value in gpu.reading.items() if name not in known}
    return {name: "-" if value in (None, "", []) else str(value) for name, value in {**known, **told}.items()}


def _cordon(gpu: admin.Gpu) -> str:
    if gpu.cordon is None:
        return ""
    return f"cordoned by {gpu.cordon.owner}, {gpu.cordon.at:%Y-%m-%d %H:%M}: {gpu.cordon.reason}"


class _Line(admin.Gpu):
    """A row of the table; `size` and `why` are for reading."""

    size: str
    why: str


def _line(gpu: admin.Gpu) -> _Line:
    return _Line(**gpu.model_dump(), size=str(gpu.memory_total_bytes // GIB), why=_cordon(gpu))


def _groups(gpus: Sequence[admin.Gpu]) -> Iterable[tuple[int | None, int | None, list[admin.Gpu]]]:
    """Yield (NUMA node, island, GPUs), what has none of them last."""
    ordered = sorted(gpus, key=lambda gpu: (_last(gpu.numa), _last(gpu.island), gpu.index, gpu.state))
    for (numa, island), members in groupby(ordered, key=lambda gpu: (gpu.numa, gpu.island)):
        yield numa, island, list(members)


def _last(number: int | None) -> int:
    return 1 << 16 if number is None else number


def _branch(node: admin.Node) -> dict[str, Any]:
    groups = [
        {"numa": numa, "island": island, "gpus": [gpu.model_dump(mode="json") for gpu in members]}
        for numa, island, members in _groups(node.gpus)
    ]
    return {**node.model_dump(mode="json", exclude={"gpus"}), "groups": groups}


def _draw(node: admin.Node) -> Tree:
    told = [*node.reasons, *(text for text in node.differences if text not in node.reasons)]
    tree = Tree(f"{node.name}  {_styled(node.state)}  {escape(node.driver and f'driver {node.driver}')}")
    for text in told:
        tree.add(f"[yellow]! {escape(text)}[/]")
    for numa, of_numa in groupby(_groups(node.gpus), key=lambda group: group[0]):
        branch = tree.add("NUMA node not known" if numa is None else f"NUMA {numa}")
        for _, island, members in of_numa:
            place = branch if island is None else branch.add(f"NVLink island {island}")
            for gpu in members:
                place.add(_leaf(gpu))
    return tree


def _leaf(gpu: admin.Gpu) -> str:
    parts = [str(gpu.index), gpu.type, f"{gpu.memory_total_bytes // GIB} GiB", _styled(gpu.state), escape(gpu.uuid)]
    if gpu.mig is not None:
        parts.append(f"MIG {', '.join(gpu.mig) or 'on, no instance'}")
    if gpu.owner:
        parts.append(f"leased to {escape(gpu.owner)}")
    if gpu.cordon is not None:
        parts.append(f"[yellow]{escape(_cordon(gpu))}[/]")
    return "  ".join(parts)


def _styled(state: str) -> str:
    return f"[{STATE_STYLES[state]}]{state}[/]" if state in STATE_STYLES else state
