"""How every list of the API is asked for and answered."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from controlplane.contracts.admin import Rows
from controlplane.kit.paging import Page, parse_page, to_cursor

Source = TypeVar("Source")
Shape = TypeVar("Shape", bound=BaseModel)


def page_of(limit: Annotated[int, Query(ge=1, le=200)] = 50, cursor: Annotated[str | None, Query()] = None) -> Page:
    return parse_page(limit, cursor)


Paged = Annotated[Page, Depends(page_of)]


def rows(
    page: Page, found: Sequence[Source], shape: Callable[[Source], Shape], sort_key: Callable[[Source], object]
) -> Rows[Shape]:
    """Return one page; a full page has a cursor, and the page after it may be empty."""
    cursor = to_cursor(str(sort_key(found[-1]))) if len(found) == page.limit else None
    return Rows(items=tuple(shape(row) for row in found), cursor=cursor)
