"""`redoubt bundle verify --closure`: one line when closed, every gap with its place and the next step when not."""

import json

import pytest

from controlplane.bundle.closure.finding import Finding
from controlplane.bundle.lock import read_lock
from controlplane.cli import bundle_closure
from controlplane.cli.bundle_closure import check_closure, refuse_open_sites
from controlplane.kit.errors import BadInput, Refused
from tests.support.source import ROOT

SITE = ROOT / "inventory/practice"


def test_a_closed_site_is_told_in_one_line(capsys):
    check_closure(SITE, lock=None, project=ROOT)

    assert capsys.readouterr().out.startswith("closed: nothing of site practice reaches beyond ")


def test_every_gap_is_shown_with_its_place_and_the_next_step(capsys, monkeypatch):
    gap = Finding("playbooks/roles/x/tasks/main.yml", 7, "package", "htop")
    monkeypatch.setattr(bundle_closure, "find_gaps_of", lambda *_: (gap,))

    with pytest.raises(Refused, match=r"1 gap, first playbooks/roles/x/tasks/main.yml:7: package: htop") as refused:
        check_closure(SITE, lock=None, project=ROOT, as_json=True)

    told = json.loads(capsys.readouterr().out)
    assert told["closed"] is False
    assert told["gaps"] == [{"path": gap.path, "line": 7, "kind": "package", "what": "htop", "remedy": gap.remedy}]
    assert refused.value.reasons == (f"{gap}; next: {gap.remedy}",)
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("text", [None, "no lock", '{"format": 1}'], ids=["missing", "not JSON", "no artefacts"])
def test_without_a_lock_the_next_step_is_to_make_one(text, tmp_path):
    lock = tmp_path / "bundle.lock"
    if text:
        lock.write_text(text)

    with pytest.raises(BadInput) as bad:
        check_closure(SITE, lock=lock, project=ROOT)

    assert "redoubt bundle lock" in bad.value.remedy


def test_a_bundle_that_does_not_hold_what_a_site_needs_is_not_built(tmp_path):
    lock = read_lock(ROOT / "images/bundle.lock")
    short = lock.model_copy(update={"artefacts": tuple(one for one in lock.artefacts if one.name != "chrony")})

    refuse_open_sites([SITE], lock, ROOT)
    with pytest.raises(Refused, match="chrony"):
        refuse_open_sites([SITE], short, ROOT)
