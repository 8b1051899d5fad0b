"""Which stages a node is due for, and why: every doubt means due."""

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("stages_filter", Path("playbooks/filter/stages.py"))
assert SPEC
assert SPEC.loader
filters = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(filters)

STAMP = {"inputs": "aa", "age_s": 60, "moved": []}
ASKED = {"inputs": "aa", "after": [], "copies": []}
COPY = {"here": "/copy", "there": "/original", "on": "ctl1"}


@pytest.mark.parametrize(
    ("stamp", "why"),
    [
        (STAMP, None),
        (None, "it was not finished here"),
        ({**STAMP, "inputs": "bb"}, "its inputs changed"),
        ({**STAMP, "inputs": ""}, "its inputs changed"),
        ({**STAMP, "moved": ["chrony.service is not active", "x"]}, "chrony.service is not active"),
        ({**STAMP, "age_s": filters.GOOD_FOR_S + 1}, "its stamp is old"),
    ],
)
def test_a_stage_is_due_when_its_stamp_does_not_vouch_for_it(stamp, why):
    found = {"stages": {"time": stamp} if stamp else {}, "shared": {}}

    due = filters.due_stages(found, {"time": ASKED}, {}, [])

    assert due == ([{"stage": "time", "why": why}] if why else [])


def test_a_stage_that_was_asked_for_is_due():
    found = {"stages": {"time": STAMP, "base": STAMP}, "shared": {}}

    due = filters.due_stages(found, {"time": ASKED, "base": ASKED}, {}, ["base"])

    assert due == [{"stage": "base", "why": "asked for"}]


def test_a_stage_follows_the_one_it_stands_on():
    found = {"stages": {"gateway": STAMP, "agent": STAMP}, "shared": {}}
    wanted = {"authority": ASKED, "gateway": {**ASKED, "after": ["authority"]}, "agent": {**ASKED, "after": ["time"]}}

    due = filters.due_stages(found, wanted, {}, [])

    assert [one["stage"] for one in due] == ["authority", "gateway"]
    assert due[1]["why"] == "authority runs"


@pytest.mark.parametrize(
    ("here", "there", "is_due"),
    [({"/copy": "x"}, {"/original": "x"}, False), ({"/copy": "x"}, {"/original": "y"}, True),
     ({}, {"/original": "x"}, True), ({"/copy": "x"}, {}, True)],
)  # fmt: skip
def test_a_copied_file_must_be_that_of_the_node_it_comes_from(here, there, is_due):
    hosts = {"ctl1": {"ansible_facts": {"node": {"shared": there}}}}
    found = {"stages": {"gateway": STAMP}, "shared": here}

    due = filters.due_stages(found, {"gateway": {**ASKED, "copies": [COPY]}}, hosts, [])

    assert bool(due) == is_due


def test_a_copy_whose_origin_was_not_read_is_doubted():
    found = {"stages": {"gateway": STAMP}, "shared": {"/copy": "x"}}

    assert filters.due_stages(found, {"gateway": {**ASKED, "copies": [COPY]}}, {"ctl1": {}}, [])
    assert filters.due_stages(found, {"gateway": {**ASKED, "copies": [COPY]}}, {}, [])


def test_without_a_word_from_the_site_every_stage_is_due():
    due = {one["stage"] for one in filters.due_stages({"stages": {}, "shared": {}}, None, {}, [])}

    assert {"boundary", "node_base", "slurm", "gateway"} <= due
