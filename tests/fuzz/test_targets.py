"""The targets of `make fuzz`, for a few seconds."""

from collections.abc import Callable

import pytest

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_it_holds_for_what_is_nearly_right(target: Callable[[], None]):
    target()
