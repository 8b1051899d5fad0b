"""A stage is skipped before its tasks are evaluated while nothing that decides it moved; a killed run goes on."""

import pytest

from tests.playbooks.stage_site import StageSite


@pytest.mark.slow
def test_what_is_unchanged_is_not_evaluated_unless_asked_or_edited_by_hand(tmp_path):
    site = StageSite(tmp_path)
    assert (site.run(), site.restarted()) == (["first", "second"], ["first", "second"])

    assert (site.run(), site.restarted()) == ([], [])
    assert (site.run(forced=("first", "second")), site.restarted()) == (["first", "second"], [])
    (tmp_path / "first.conf").write_text("by hand")
    assert (site.run(), site.restarted()) == (["first"], ["first"])
    assert (tmp_path / "first.conf").read_text() == "one"


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_where_it_stopped_and_loses_no_restart(tmp_path):
    site = StageSite(tmp_path)
    assert site.run_and_pull_the_plug() == ["first"]
    assert (tmp_path / "first.conf").exists()
    assert site.restarted() == []  # the plug was pulled between the file and its handler

    assert (site.run(), site.restarted()) == (["first", "second"], ["first", "second"])
    site.inputs["second_text"] = "another"
    assert site.run_and_pull_the_plug() == ["second"]
    assert (site.run(), site.restarted()) == (["second"], ["second"])
