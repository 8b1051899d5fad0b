"""From a body to a request: the one way in, for clients and for lines of batches."""

from controlplane.gateway.admission import admit
from controlplane.gateway.directory import Directory, Grant, Terms
from controlplane.gateway.hub import Hub
from controlplane.gateway.request import Request, Work
from controlplane.gateway.surface.asks import require_served
from controlplane.gateway.surface.surface import Surface
from controlplane.kit.clock import to_us


def to_request(
    hub: Hub, directory: Directory, grant: Grant, terms: Terms, work: Work, surface: Surface, body: bytes, source: str,
    request_id: bytes,
) -> Request:  # fmt: skip
    """Read a body and find its endpoint. Raises Refusal."""
    ask = surface.read(body)
    endpoint = directory.find(grant, ask.model)
    now = hub.clock.now()
    admit(directory, grant, terms, endpoint, source=source, now=now)
    require_served(surface, ask, endpoint)
    return Request(
        request_id, source, to_us(now), hub.time(), directory, grant, terms, work, surface, ask, body, endpoint
    )
