"""Cursors for lists: opaque to the client, the last row's sort key to us."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from controlplane.kit.errors import BadInput

MOST_ROWS = 200


@dataclass(frozen=True)
class Page:
    """What a list may return: at most `limit` rows after `after`."""

    limit: int
    after: str | None


def parse_page(limit: int, cursor: str | None) -> Page:
    """Read a list request; raises BadInput for a cursor that we did not make."""
    if not 1 <= limit <= MOST_ROWS:
        raise BadInput(f"limit is {limit}", remedy=f"ask for 1 to {MOST_ROWS} rows")
    if cursor is None:
        return Page(limit, None)
    try:
        return Page(limit, urlsafe_b64decode(cursor.encode()).decode())
    except ValueError:
        raise BadInput("the cursor is not one of ours", remedy="start again without a cursor") from None


def to_cursor(last: str) -> str:
    return urlsafe_b64encode(last.encode()).decode()
