"""The typed client of enrolment, sessions, users, roles and the break-glass."""

from collections.abc import Iterator

from controlplane.client.admin import AdminClient
from controlplane.contracts import identity


class IdentityClient(AdminClient):
    """One method a verb, as in AdminClient."""

    def begin_enrolment(self, ask: identity.BeginEnrolment) -> identity.EnrolmentBegun:
        return self.send("POST", ("enrolments",), ask, identity.EnrolmentBegun)

    def finish_enrolment(self, ask: identity.FinishEnrolment) -> identity.EnrolmentFinished:
        return self.send("POST", ("enrolments", "confirmations"), ask, identity.EnrolmentFinished)

    def sign_in(self, ask: identity.SignIn) -> identity.Tokens:
        return self.send("POST", ("sign-ins",), ask, identity.Tokens)

    def refresh(self, ask: identity.Refresh) -> identity.Tokens:
        return self.send("POST", ("sign-ins", "refresh"), ask, identity.Tokens)

    def sign_out(self) -> identity.Session:
        return self.send("DELETE", ("sessions", "current"), None, identity.Session)

    def whoami(self) -> identity.Whoami:
        return self.send("GET", ("whoami",), None, identity.Whoami)

    def list_sessions(self, *, every: bool) -> Iterator[identity.Session]:
        return self.list_of("/sessions", identity.Session, every="true" if every else "false")

    def revoke_session(self, session_id: str) -> identity.Session:
        return self.send("DELETE", ("sessions", session_id), None, identity.Session)

    def create_user(self, ask: identity.CreateUser) -> identity.NewUser:
        return self.send("POST", ("users",), ask, identity.NewUser)

    def list_users(self) -> Iterator[identity.User]:
        return self.list_of("/users", identity.User)

    def get_user(self, name: str) -> identity.User:
        return self.send("GET", ("users", name), None, identity.User)

    def disable_user(self, name: str) -> identity.User:
        return self.send("DELETE", ("users", name), None, identity.User)

    def enrol_again(self, name: str) -> identity.EnrolmentCode:
        return self.send("POST", ("users", name, "enrolments"), None, identity.EnrolmentCode)

    def list_roles(self, name: str) -> Iterator[identity.RoleGrant]:
        return self.list_of(self.path_of(("users", name, "roles")), identity.RoleGrant)

    def grant_role(self, name: str, ask: identity.GrantRole) -> identity.RoleGrant:
        return self.send("POST", ("users", name, "roles"), ask, identity.RoleGrant)

    def revoke_role(self, name: str, role: str) -> identity.RoleGrant:
        return self.send("DELETE", ("users", name, "roles", role), None, identity.RoleGrant)

    def open_break_glass(self, ask: identity.OpenBreakGlass) -> identity.Tokens:
        return self.send("POST", ("break-glass", "openings"), ask, identity.Tokens)

    def make_share(self) -> identity.Share:
        return self.send("POST", ("break-glass", "shares"), None, identity.Share)

    def break_glass(self) -> identity.BreakGlass:
        return self.send("GET", ("break-glass",), None, identity.BreakGlass)
