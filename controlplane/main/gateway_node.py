"""What the workers of one node share: on which revision a run is, what kills engines, who sits and what runs where."""

from functools import partial

from controlplane.contracts.snapshot import Snapshot
from controlplane.gateway.hub import Hub
from controlplane.gateway.node_page import NodePage, make_memory
from controlplane.gateway.routing.discovery_file import write_discovery
from controlplane.gateway.routing.neighbours import NodeNeighbours
from controlplane.gateway.routing.runs import SharedRuns
from controlplane.gateway.shared_table import SharedTable
from controlplane.gateway.suspects import Suspects
from controlplane.gateway.waiting.fair import FairQueues
from controlplane.gateway.waiting.seat_board import SeatBoard
from controlplane.kit.errors import Unavailable
from controlplane.main.gateway_leaves import Loop
from controlplane.main.settings import GatewaySettings


def adopt_and_publish(hub: Hub, settings: GatewaySettings, snapshot: Snapshot) -> None:
    """Serve by the snapshot, and tell other routers where its replicas are."""
    hub.adopt(snapshot)
    write_discovery(settings.state_dir / "endpoints.json", snapshot)


def memory_of(settings: GatewaySettings) -> int | None:
    """Return memory for what several workers tell each other, None for one worker. Raises Unavailable."""
    if settings.workers == 1:
        return None
    try:
        return make_memory()
    except OSError as error:
        detail = f"there is no memory for what workers share: {error}"
        raise Unavailable(detail, remedy="free 4 MiB of memory, or set workers = 1") from None


def share_with_workers(hub: Hub, settings: GatewaySettings, memory: int | None) -> list[Loop]:
    """Open what is shared and give it to the hub; return what keeps it going. Raises Unavailable."""
    folder = settings.state_dir
    try:
        hub.suspects = Suspects(SharedTable(folder / "suspects", buckets=1 << 10))
        hub.runs = SharedRuns(SharedTable(folder / "runs"))
    except OSError as error:
        detail = f"what workers share cannot be kept in {folder}: {error}"
        raise Unavailable(detail, remedy="free 10 MiB on that disk, or give the folder to the gateway's user") from None
    page = NodePage(memory) if memory is not None else None
    queues = FairQueues(time=hub.time, endpoint_now=hub.endpoint_now, elsewhere=SeatBoard(page) if page else None)
    hub.queues = queues
    if page is None:
        return []
    neighbours = hub.neighbours = NodeNeighbours(page)
    return [partial(page.watch, [queues.look, lambda: neighbours.listen(hub.tick)])]
