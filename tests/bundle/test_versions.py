"""Debian versions are ordered as policy 5.6.12 orders them, which is as dpkg does."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.bundle.versions import satisfies, version_key

ASCENDING = [
    ["1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a", "1.0+", "1.0.1"],
    ["1.2-1~deb13u1", "1.2-1", "1.2-1+b1", "1.2-1+deb13u1", "1.2-2", "1.2-10"],
    ["0.9", "0.10", "0.10.0", "1:0.1", "2:0"],
    ["2.41-12+deb13u4", "2.41-12+deb13u5"],
    ["1.0a", "1.0b", "1.0.", "1.0.1"],
    ["1.0-1-1", "1.0-1-2", "1.0-2-0"],
]


@pytest.mark.parametrize("versions", ASCENDING, ids=lambda versions: versions[0])
def test_versions_ascend(versions):
    shuffled = [*versions[1::2], *versions[::2]]

    assert sorted(shuffled, key=version_key) == versions
    assert len({version_key(version) for version in versions}) == len(versions)


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.0", "1.00"), ("1.a", "1.a0"), ("1.0.", "1.0.0")]
)
def test_some_spellings_are_one_version(one, other):
    assert version_key(one) == version_key(other)


@pytest.mark.parametrize(("operator", "holds"), [("<<", False), ("<=", True), ("=", True), (">=", True), (">>", False)])
def test_a_version_stands_in_these_relations_to_itself(operator, holds):
    assert satisfies("1:2-3", operator, "1:2-3") is holds


LETTERS = "019aZ.+~-"
VERSION = st.builds(
    lambda epoch, head, rest: f"{epoch}{head}{rest}".rstrip("-"),
    st.sampled_from(["", "0:", "1:"]), st.sampled_from("0129"), st.text(LETTERS, max_size=8),
)  # fmt: skip


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is not on this machine")
@settings(max_examples=150, deadline=None)
@given(VERSION, VERSION)
def test_dpkg_agrees(one, other):
    mine, theirs = version_key(one), version_key(other)
    relation = "lt" if mine < theirs else "gt" if mine > theirs else "eq"

    done = subprocess.run(["dpkg", "--compare-versions", one, relation, other], check=False, capture_output=True)

    assert done.returncode == 0, (one, relation, other, done.stderr)
