"""Every route of the two applications, as an attacker would list them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount

from tests.support.control_plane import ControlPlane

PLACEHOLDER = re.compile(r"\{[^}]+\}")


@dataclass(frozen=True)
class Served:
    """One method of one path; `path` is the template, `url` one that fits it."""

    app: str
    method: str
    path: str
    route: BaseRoute

    @property
    def url(self) -> str:
        return PLACEHOLDER.sub("x", self.path)


def served_by(plane: ControlPlane) -> list[Served]:
    """Return what both applications serve, mounted folders too."""
    apps = {"admin": plane.admin_app, "machine": plane.machine_app}
    return [one for name, app in apps.items() for one in _walk(name, app.routes)]


def app_of(plane: ControlPlane, served: Served) -> FastAPI:
    return plane.admin_app if served.app == "admin" else plane.machine_app


def _walk(name: str, routes: Iterable[BaseRoute], prefix: str = "") -> Iterator[Served]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:  # FastAPI keeps an included router as one entry
            yield from _walk(name, inner.routes, prefix + route.include_context.prefix)  # type: ignore[attr-defined]  # private
        elif isinstance(route, Mount):
            yield Served(name, "GET", f"{prefix}{route.path}/x", route)
        else:
            methods = getattr(route, "methods", None) or {"GET"}
            path = f"{prefix}{getattr(route, 'path', route)}"
            yield from (Served(name, method, path, route) for method in sorted(methods - {"HEAD", "OPTIONS"}))
