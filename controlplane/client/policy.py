"""The typed client of policy sets, approvals and access checks."""

from collections.abc import Iterator

from controlplane.client.admin import AdminClient
from controlplane.contracts import policy as shapes


class PolicyClient(AdminClient):
    """One method a verb, as in AdminClient. A `version` is a number, or "current"."""

    def list_verbs(self) -> Iterator[shapes.VerbRow]:
        return self.list_of("/verbs", shapes.VerbRow)

    def list_sets(self) -> Iterator[shapes.PolicySetRow]:
        return self.list_of("/policy-sets", shapes.PolicySetRow)

    def get_set(self, version: str) -> shapes.PolicySetView:
        return self.send("GET", ("policy-sets", version), None, shapes.PolicySetView)

    def check_set(self, ask: shapes.DraftSet) -> shapes.CheckedSet:
        return self.send("POST", ("policy-checks",), ask, shapes.CheckedSet)

    def propose_set(self, ask: shapes.DraftSet) -> shapes.ProposedSet:
        return self.send("POST", ("policy-sets",), ask, shapes.ProposedSet)

    def propose_publication(self, version: int, ask: shapes.ProposePublication) -> shapes.ProposedSet:
        return self.send("POST", ("policy-sets", str(version), "proposals"), ask, shapes.ProposedSet)

    def replay_set(self, version: int) -> shapes.Replay:
        return self.send("POST", ("policy-sets", str(version), "replays"), None, shapes.Replay)

    def publish_set(self, version: int, ask: shapes.Publish) -> shapes.Publication:
        return self.send("POST", ("policy-sets", str(version), "publications"), ask, shapes.Publication)

    def list_publications(self) -> Iterator[shapes.Publication]:
        return self.list_of("/policy-publications", shapes.Publication)

    def check_access(self, ask: shapes.AccessCheck) -> shapes.AccessAnswer:
        return self.send("POST", ("access-check",), ask, shapes.AccessAnswer)

    def list_approvals(self, *, every: bool) -> Iterator[shapes.ApprovalView]:
        return self.list_of("/approvals", shapes.ApprovalView, state="all" if every else "open")

    def get_approval(self, approval_id: str) -> shapes.ApprovalView:
        return self.send("GET", ("approvals", approval_id), None, shapes.ApprovalView)

    def propose(self, ask: shapes.ProposeApproval) -> shapes.ApprovalView:
        return self.send("POST", ("approvals",), ask, shapes.ApprovalView)

    def approve(self, approval_id: str) -> shapes.ApprovalView:
        return self.send("POST", ("approvals", approval_id, "approve"), None, shapes.ApprovalView)

    def refuse(self, approval_id: str) -> shapes.ApprovalView:
        return self.send("POST", ("approvals", approval_id, "refuse"), None, shapes.ApprovalView)
