"""The typed client of what the admin API says about machines' certificates."""

from collections.abc import Iterator

from controlplane.client.admin import AdminClient
from controlplane.contracts import pki


class MachinesClient(AdminClient):
    """One method a verb, as in AdminClient."""

    def create_join_token(self, node: str) -> pki.NewJoinToken:
        return self.send("POST", ("nodes", node, "join-tokens"), None, pki.NewJoinToken)

    def join(self, ask: pki.AskJoin) -> pki.Joined:
        return self.send("POST", ("node-joins",), ask, pki.Joined)

    def list_joins(self, *, every: bool) -> Iterator[pki.NodeJoin]:
        return self.list_of("/node-joins", pki.NodeJoin, state="all" if every else "waiting")

    def approve_join(self, join_id: str, ask: pki.ApproveJoin) -> pki.NodeJoin:
        return self.send("POST", ("node-joins", join_id, "approval"), ask, pki.NodeJoin)

    def refuse_join(self, join_id: str) -> pki.NodeJoin:
        return self.send("DELETE", ("node-joins", join_id), None, pki.NodeJoin)

    def revoke_node(self, node: str, ask: pki.RevokeNode) -> pki.Revocation:
        return self.send("POST", ("nodes", node, "revocations"), ask, pki.Revocation)

    def list_revocations(self) -> Iterator[pki.Revocation]:
        return self.list_of("/node-revocations", pki.Revocation)

    def list_certificates(self) -> Iterator[pki.SeenLeaf]:
        return self.list_of("/node-certificates", pki.SeenLeaf)
