"""The typed client of shares, pools, reservations, leases, and of what an ask would get."""

from collections.abc import Iterator

from controlplane.client.admin import AdminClient
from controlplane.contracts import admin, allocation


class AllocationClient(AdminClient):
    """One method a verb, as in AdminClient."""

    def create_share(self, ask: allocation.CreateShare) -> allocation.Share:
        return self.send("POST", ("shares",), ask, allocation.Share)

    def list_shares(self, kind: str = "") -> Iterator[allocation.Share]:
        return self.list_of("/shares", allocation.Share, **({"kind": kind} if kind else {}))

    def get_share(self, name: str) -> allocation.Share:
        return self.send("GET", ("shares", name), None, allocation.Share)

    def set_share(self, name: str, ask: allocation.SetShare) -> allocation.Share:
        return self.send("PATCH", ("shares", name), ask, allocation.Share)

    def archive_share(self, name: str) -> allocation.Share:
        return self.send("DELETE", ("shares", name), None, allocation.Share)

    def set_quota(self, share: str, gpu_type: str, ask: allocation.SetQuota) -> allocation.Quota:
        return self.send("PUT", ("shares", share, "quotas", gpu_type), ask, allocation.Quota)

    def list_quotas(self) -> Iterator[allocation.Quota]:
        return self.list_of("/quotas", allocation.Quota)

    def list_pools(self) -> Iterator[allocation.Pool]:
        return self.list_of("/pools", allocation.Pool)

    def set_pool(self, pool: str, ask: allocation.SetPool) -> allocation.Pool:
        return self.send("PATCH", ("pools", pool), ask, allocation.Pool)

    def create_reservation(self, ask: allocation.CreateReservation) -> allocation.Reservation:
        return self.send("POST", ("reservations",), ask, allocation.Reservation)

    def list_reservations(self) -> Iterator[allocation.Reservation]:
        return self.list_of("/reservations", allocation.Reservation)

    def delete_reservation(self, name: str) -> None:
        self._send("DELETE", self.path_of(("reservations", name)))

    def list_all_leases(self, *, live: bool) -> Iterator[admin.Lease]:
        return self.list_of("/leases", admin.Lease, live="true" if live else "false")

    def get_lease(self, name: str) -> allocation.LeaseDetail:
        return self.send("GET", ("leases", name), None, allocation.LeaseDetail)

    def explain(self, **asked: str) -> allocation.Explanation:
        return self.read("/allocation/explanation", allocation.Explanation, **asked)
