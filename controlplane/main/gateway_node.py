"""What the workers of one node share: on which revision a run is, who sits where, and which requests kill engines."""

from functools import partial

from controlplane.contracts.snapshot import Snapshot
from controlplane.gateway.hub import Hub
from controlplane.gateway.routing.choose import COMMON_HOME_BYTES
from controlplane.gateway.routing.discovery_file import write_discovery
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


def share_with_workers(hub: Hub, settings: GatewaySettings) -> list[Loop]:
    """Open what is shared and give it to the hub; return what keeps it going. Raises Unavailable."""
    folder = settings.state_dir
    try:
        hub.suspects = Suspects(SharedTable(folder / "suspects", buckets=1 << 10))
        hub.runs = SharedRuns(SharedTable(folder / "runs"))
        board = SeatBoard(folder / "seats") if settings.workers > 1 else None
    except OSError as error:
        detail = f"what workers share cannot be kept in {folder}: {error}"
        raise Unavailable(detail, remedy="free 10 MiB on that disk, or give the folder to the gateway's user") from None
    if settings.workers > 1:
        hub.home_bytes = COMMON_HOME_BYTES
    queues = FairQueues(time=hub.time, endpoint_now=hub.endpoint_now, elsewhere=board)
    hub.queues = queues
    return [partial(board.watch, queues.look)] if board is not None else []
