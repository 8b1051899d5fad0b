"""Who sits at a browser. The cookie is read here and nowhere else, and never for another site's request."""

from typing import Annotated

from fastapi import Depends, Request

from controlplane.domains.audit.types import Actor
from controlplane.domains.factors.service import Means
from controlplane.domains.identity.service import sessions
from controlplane.domains.identity.types import TokenKind
from controlplane.kit.errors import Denied, Unauthenticated
from controlplane.web.cookies import read_cookie
from controlplane.web.limits import source_of
from controlplane.web.transaction import Transaction

READING = frozenset({"GET", "HEAD", "OPTIONS"})


class SignInFirst(Unauthenticated):
    """A page answers this with the way to the sign-in page."""

    def __init__(self) -> None:
        super().__init__("nobody is signed in here", remedy="sign in, then come back", code="sign_in_first")


def means_of(request: Request) -> Means:
    means = request.app.state.means
    if not isinstance(means, Means):
        raise TypeError("the application was made without means to check factors")
    return means


def require_own_origin(request: Request) -> None:
    """Refuse whatever changes something and was not sent by a page of this site (ASVS 3.5.1; Ray forgot DELETE)."""
    if request.method in READING:
        return
    if request.headers.get("origin") != means_of(request).origin:
        raise Denied(
            "this request was not sent by a page of this site",
            remedy=f"open {means_of(request).origin} and try again there",
            code="foreign_origin",
        )


async def authenticate_browser(request: Request, tx: Transaction) -> Actor:
    """Return who is signed in; raises SignInFirst for nobody and for a session that is over."""
    require_own_origin(request)
    secret = read_cookie(request, means_of(request).origin)
    if not secret:
        raise SignInFirst
    try:
        actor = await sessions.authenticate(tx, secret, source=source_of(request.scope), kind=TokenKind.COOKIE)
    except Unauthenticated:
        raise SignInFirst from None
    request.state.actor = actor
    return actor


Browser = Annotated[Actor, Depends(authenticate_browser, scope="function")]
