import pytest

from tests.support.bundles import SmallBundle


@pytest.fixture
def bundle(tmp_path):
    return SmallBundle(tmp_path)
