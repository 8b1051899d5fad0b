"""Lists and deletions as OpenAI's clients see them."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Ask:
    """Which page of a list is wanted: at most `limit` rows behind the name `after`."""

    limit: int
    is_descending: bool
    after: str

    def cut(self, names: Iterable[str], load: Callable[[str], Row | None]) -> tuple[list[Row], bool]:
        """Return the page, and whether there is more; no more is loaded than it takes. `load` passes over by None."""
        rows: list[Row] = []
        for name in sorted(filter(self._is_behind, names), reverse=self.is_descending):
            row = load(name)
            if row is None:
                continue
            if len(rows) == self.limit:
                return rows, True
            rows.append(row)
        return rows, False

    def _is_behind(self, name: str) -> bool:
        return not self.after or (name < self.after if self.is_descending else name > self.after)


def read_ask(query: dict[str, str], names: re.Pattern[str], *, most: int, shown: int) -> Ask:
    """Read what a client asks for; up to `most` may be asked for, `shown` are. Raises BadRequest, NotKept."""
    limit = _limit(query.get("limit", ""), most)
    order, after = query.get("order", "desc"), query.get("after", "")
    if order not in {"asc", "desc"}:
        raise BadRequest("order is asc or desc", remedy="send one of the two", param="order")
    if after and not names.fullmatch(after):
        raise NotKept(f"there is no {after[:60]!r} to go on after", remedy="list from the beginning", param="after")
    return Ask(min(limit, shown), order == "desc", after)


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
