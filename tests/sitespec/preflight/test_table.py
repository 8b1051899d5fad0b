"""The table: blocks first with their remedies, one line for many nodes, what is well as a number."""

from controlplane.sitespec.preflight.table import lines, summary
from tests.sitespec.preflight.sample import SITE, judged

EVERY = [node.name for node in SITE.nodes]


def test_a_site_that_is_right_is_one_line():
    (only,) = lines(judged(), everything=False)

    assert only.endswith(" ok; --all shows everything")
    assert summary(judged()) == "preflight: nothing blocks"


def test_blocks_come_first_and_every_finding_has_its_remedy_below():
    told = list(lines(judged({"gpu1": {"os.release": "debian 12", "os.fips": "1"}}), everything=False))

    assert told[0].startswith("BLOCK    os.release")
    assert "debian 12  (wanted: debian 13)" in told[0]
    assert "-> install Debian 13" in told[1]
    assert told[2].startswith("warning  os.fips")


def test_the_same_finding_on_many_nodes_is_one_line():
    told = list(lines(judged({name: {"os.cgroups": "v1"} for name in EVERY}), everything=False))

    assert "ctl1, store1 and 3 more" in told[0]
    assert len([line for line in told if "os.cgroups" in line]) == 1


def test_a_block_that_could_not_be_read_is_shown_and_an_unread_warning_is_only_counted():
    unread = {"unread": "hidden"}
    told = list(lines(judged({"gpu1": {"os.release": unread, "os.fips": unread}}), everything=False))

    assert told[0].startswith("unknown  os.release")
    assert not any("os.fips" in line for line in told)
    assert "2 unknown" in told[-1]


def test_the_summary_names_every_block_and_the_first_step():
    told = summary(judged({"gpu1": {"os.release": "debian 12"}, "gpu2": {"os.pending_reboot": ["/run/x"]}}))

    assert told.startswith("preflight: 2 checks block: ")
    assert "os.release on gpu1: debian 12" in told
    assert "os.pending_reboot on gpu2: /run/x" in told
    assert ". First: " in told
