"""The typed client of the audit log."""

from collections.abc import Iterator

import httpx

from controlplane.client.admin import AdminClient
from controlplane.contracts import admin
from controlplane.contracts import audit as shapes

MOST_ROWS = "200"


class AuditClient(AdminClient):
    """One method a verb, as in AdminClient."""

    def list_events(self) -> Iterator[admin.AuditEvent]:
        return self.list_of("/audit-events", admin.AuditEvent)

    def get_event(self, event_id: str) -> shapes.FullEvent:
        return self.send("GET", ("audit", "events", event_id), None, shapes.FullEvent)

    def get_proof(self, event_id: str) -> shapes.Proof:
        return self.send("GET", ("audit", "events", event_id, "proof"), None, shapes.Proof)

    def list_entries(self) -> Iterator[shapes.Entry]:
        return self.list_of("/audit/entries", shapes.Entry, limit=MOST_ROWS)

    def get_checkpoint(self, size: int | None = None) -> shapes.Checkpoint:
        query = f"?{httpx.QueryParams({'size': size})}" if size is not None else ""
        return self._get(f"/audit/checkpoint{query}", shapes.Checkpoint)

    def list_checkpoints(self) -> Iterator[shapes.Checkpoint]:
        return self.list_of("/audit/checkpoints", shapes.Checkpoint, limit=MOST_ROWS)

    def list_witnesses(self) -> Iterator[shapes.Witness]:
        return self.list_of("/audit/witnesses", shapes.Witness)

    def list_holds(self) -> Iterator[shapes.Hold]:
        return self.list_of("/audit/holds", shapes.Hold)

    def place_hold(self, ask: shapes.PlaceHold) -> shapes.Hold:
        return self.send("POST", ("audit", "holds"), ask, shapes.Hold)

    def release_hold(self, hold_id: str, ask: shapes.Release) -> shapes.Hold:
        return self.send("POST", ("audit", "holds", hold_id, "release"), ask, shapes.Hold)

    def purge(self, ask: shapes.Purge) -> shapes.Purged:
        return self.send("POST", ("audit", "purges"), ask, shapes.Purged)

    def erase(self, ask: shapes.Erase) -> shapes.Erased:
        return self.send("POST", ("audit", "erasures"), ask, shapes.Erased)
