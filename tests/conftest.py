"""What every test runs under."""

import os

import pytest
from hypothesis import settings

from tests.support.network import close_the_network

pytest_plugins = ["tests.support.plane_fixtures"]
close_the_network()
settings.register_profile("redoubt", deadline=None)  # a busy two-core machine is no finding
settings.load_profile("redoubt")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("system"):
            item.add_marker(pytest.mark.skip(reason="system tests make network namespaces and nodes: run as root"))
