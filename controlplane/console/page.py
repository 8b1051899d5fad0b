"""Pages: one layout, nothing inline, and headers under which nothing that is not ours runs."""

import re
from collections.abc import Iterable, Mapping

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from controlplane.web.browser import means_of

TEMPLATES = Environment(
    loader=PackageLoader("controlplane.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
TEMPLATES.filters["day"] = lambda at: at.strftime("%-d %B %Y")
TEMPLATES.filters["moment"] = lambda at: at.strftime("%-d %B %Y, %H:%M UTC")
Form = Mapping[str, object]
NOTHING: Form = {}
LOCAL = re.compile(r"/(?:[A-Za-z0-9_.~-][A-Za-z0-9_.~/-]*)?(?:\?[A-Za-z0-9_.~%+=&:/-]*)?")
HOME = "/security"


def page(
    request: Request, template: str, *, status: int = 200, form_targets: Iterable[str] = (), **values: object
) -> Response:
    """Render a template of this folder. `form_targets` are origins that a form's answer may redirect to.

    Browsers hold redirects after a form against `form-action`, so a consent page names its client's origin.
    """
    given = {"error": None, "signed_in": False, "ticket": "", **values, "site": means_of(request).site}
    return HTMLResponse(TEMPLATES.get_template(template).render(given), status, page_headers(form_targets))


def page_headers(form_targets: Iterable[str] = ()) -> dict[str, str]:
    """Return what a page carries beside the headers of every answer."""
    targets = " ".join(("'self'", *form_targets))
    return {
        "Content-Security-Policy": (
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
            f"form-action {targets}; base-uri 'none'; frame-ancestors 'none'"
        ),
        # with no-referrer a browser sends `Origin: null` with our own forms, and the Origin check would refuse them
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def go(path: str) -> RedirectResponse:
    """Send the browser to another page of ours, by GET."""
    return RedirectResponse(path, 303)


def local_path(wanted: str | None) -> str:
    """Return where to go after a sign-in: a path of this site, or home for whatever is none."""
    return wanted if wanted and len(wanted) <= 2000 and LOCAL.fullmatch(wanted) else HOME
