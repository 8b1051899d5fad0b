"""The one cookie: whoever holds it is signed in, or has shown a password and owes the second factor."""

from fastapi import Request
from fastapi.responses import Response

HOST_ONLY = "__Host-redoubt"
PLAIN_LOOPBACK = "redoubt-plain-loopback"  # browsers keep __Host- cookies from plain HTTP; only the box has that


def is_secure(origin: str) -> bool:
    return origin.startswith("https://")


def cookie_name(origin: str) -> str:
    return HOST_ONLY if is_secure(origin) else PLAIN_LOOPBACK


def read_cookie(request: Request, origin: str) -> str:
    """Return the secret, "" without one."""
    return request.cookies.get(cookie_name(origin), "")


def write_cookie(response: Response, origin: str, secret: str) -> None:
    """Hand the secret to the browser: no script reads it, no other site sends it, no other host or path gets it."""
    response.set_cookie(
        cookie_name(origin), secret, path="/", secure=is_secure(origin), httponly=True, samesite="strict"
    )


def clear_cookie(response: Response, origin: str) -> None:
    response.delete_cookie(cookie_name(origin), path="/", secure=is_secure(origin), httponly=True, samesite="strict")
