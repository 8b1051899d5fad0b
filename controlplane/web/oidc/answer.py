"""Answers and refusals of the protocol (RFC 6749, 5.2)."""

from dataclasses import dataclass, field
from typing import Any  # a body is JSON

from fastapi.responses import JSONResponse, RedirectResponse, Response

from controlplane.kit.errors import RedoubtError

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass
class Answer:
    """What Authlib made: a status, a body and headers."""

    status: int
    body: Any
    headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def location(self) -> str | None:
        return next((value for name, value in self.headers if name == "Location"), None)

    @property
    def error(self) -> str | None:
        """The error's name; None for an answer that is none."""
        body = dict(self.body) if self.body else {}
        return str(body["error"]) if self.status >= 400 and "error" in body else None

    def to_response(self) -> Response:
        if self.location is not None:
            return RedirectResponse(self.location, 302, NO_STORE)
        headers = {name: value for name, value in self.headers if name != "Content-Type"}
        return JSONResponse(dict(self.body), self.status, {**headers, **NO_STORE})


class ProtocolRefused(RedoubtError):
    """A refusal in the protocol's own words. `keeps_changes` commits what the refused request wrote."""

    status = 400
    kind = "bad_input"

    def __init__(
        self,
        error: str,
        detail: str,
        *,
        status: int = 400,
        headers: dict[str, str] | None = None,
        keeps_changes: bool = False,
    ) -> None:
        super().__init__(
            detail, remedy="see /.well-known/openid-configuration", code=error, keeps_changes=keeps_changes
        )
        self.answer_status = status
        self.headers = headers or {}

    def to_response(self) -> Response:
        body = {"error": self.code, "error_description": self.detail}
        return JSONResponse(body, self.answer_status, {**self.headers, **NO_STORE})
