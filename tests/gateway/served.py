"""A gateway process over TLS with one real llama.cpp for each kind of work."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.contracts.snapshot import SnapshotReplica
from controlplane.domains.serving.rules import SURFACES
from tests.gateway.process import GatewayProcess, StandInControlPlane, gateway_process, until
from tests.gateway.stage import KEY, endpoint, key, snapshot
from tests.runner.ranking_weights import write_ranking_weights
from tests.runner.runs import Site, running
from tests.runner.stand_in_api import StandInApi, stand_in_api

CONTEXT_TOKENS = 96  # as gateways are told: what bounds an answer that nobody bounds
ENDPOINTS = {"chat": "llama_cpp", "vectors": "embed", "ranks": "rerank"}


@dataclass(frozen=True)
class Replicas:
    """Starts runs of one site."""

    site: Site
    folder: Path
    stack: ExitStack

    def start(self, adapter: str) -> SnapshotReplica:
        api = self.stack.enter_context(stand_in_api(self.site.api, StandInApi()))
        run = self.stack.enter_context(
            running(self.site, api, adapter=adapter, replica_id=f"replica_{adapter}", lease_s=60.0, **self._of(adapter))
        )
        run.until_ready()
        told = api.registered[-1]
        return SnapshotReplica(
            replica_id=told["replica_id"], host="127.0.0.1", port=told["port"], certificate_pem=told["certificate_pem"]
        )

    def _of(self, adapter: str) -> dict[str, Any]:  # keyword arguments of `running`
        if adapter != "rerank":
            return {}
        weights = self.folder / "ranking.gguf"
        write_ranking_weights(self.site.model, weights)
        return {"model_path": str(weights), "model_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}


@contextmanager
def serving(folder: Path, site: Site) -> Iterator[GatewayProcess]:
    """Serve every endpoint of ENDPOINTS, and `empty`, which has no replica, until the block ends."""
    control_plane = StandInControlPlane()
    with ExitStack() as stack:
        stack.callback(control_plane.go_away)
        gateway = stack.enter_context(gateway_process(folder, site.gateway, control_plane))
        gateway.start()
        replicas = Replicas(site, folder, stack)
        plain = snapshot(1, (), (key(KEY),), expires_in_s=3600)
        served = tuple(
            endpoint(name, (replicas.start(adapter),)).model_copy(
                update={"adapter": adapter, "surfaces": SURFACES[adapter], "context_tokens": CONTEXT_TOKENS}
            )
            for name, adapter in ENDPOINTS.items()
        )
        control_plane.publish_snapshot(plain.model_copy(update={"endpoints": (*served, endpoint("empty", ()))}))
        until(gateway.is_ready)
        yield gateway
