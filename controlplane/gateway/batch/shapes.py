"""Lists and deletions as OpenAI's clients see them."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec

from controlplane.gateway.batch.refusals import NotKept
from controlplane.gateway.errors import BadRequest

_MOST_DIGITS = 9


class Listed(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=Listed)


class Page(msgspec.Struct):
    data: list[msgspec.Struct]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


class Deleted(msgspec.Struct):
    id: str
    object: str = "file"
    deleted: bool = True


def cut(rows: Sequence[Row], query: dict[str, str], *, most: int) -> tuple[list[Row], bool]:
    """Return the page that the query asks for, and whether there is more; rows come newest first. Raises BadRequest."""
    limit = _limit(query.get("limit", ""), most)
    order = query.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise BadRequest("order is asc or desc", remedy="send one of the two", param="order")
    ordered = list(rows) if order == "desc" else list(reversed(rows))
    after = query.get("after", "")
    if after:
        at = next((number for number, row in enumerate(ordered) if row.id == after), None)
        if at is None:
            raise NotKept(f"there is no {after[:60]!r} to go on after", remedy="list from the beginning", param="after")
        ordered = ordered[at + 1 :]
    return ordered[:limit], len(ordered) > limit


def _limit(asked: str, most: int) -> int:
    if not asked:
        return most
    number = small_number(asked)
    if number is None or not 1 <= number <= most:
        raise BadRequest(f"limit is a number from 1 to {most}", remedy="send such a number", param="limit")
    return number


def small_number(asked: str) -> int | None:
    """Return a number of at most nine digits, None where it is none."""
    return int(asked) if len(asked) <= _MOST_DIGITS and asked.isascii() and asked.isdigit() else None


def page(shown: list[msgspec.Struct], rows: Sequence[Listed], *, has_more: bool) -> bytes:
    first, last = (rows[0].id, rows[-1].id) if rows else (None, None)
    return msgspec.json.encode(Page(shown, first, last, has_more))
