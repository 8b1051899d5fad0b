"""A wrong site spec is refused with the line, the cause and the next step."""

from pathlib import Path

import pytest

from controlplane.sitespec.spec import DATABASE_ROLES
from controlplane.sitespec.text import WrongSpec, parse_site

PRACTICE = Path("inventory/practice/site.yml")
TEXT = PRACTICE.read_text()

WRONG = {
    "a misspelt key": (
        "    zone: north\n  - name: gpu1",
        "    zoen: north\n  - name: gpu1",
        "zoen",
        "did you mean `zone`?",
    ),
    "a misspelt key at the top": ("network:", "netwrok:", "netwrok", "did you mean `network`?"),
    "an unlike key": ("practice: true", "practice: true\ncolour: red", "colour", "known here:"),
    "an address twice": ("10.77.0.12", "10.77.0.11", "already taken by gpu1", "another address"),
    "a name twice": ("name: gpu2", "name: gpu1", "already taken by gpu1", "another name"),
    "the name of the whole": ("name: gpu2", "name: site", "the name site is that of the whole", "another name"),
    "the name of the service's database role": (
        "name: gpu2",
        "name: redoubt",
        "the name redoubt is a database role, for which the node's certificate could be taken",
        "another name",
    ),
    "the name of the database's own role": ("name: gpu2", "name: postgres", "is a database role", "another name"),
    "an unknown zone": (
        "    zone: north\n    cpus: 8",
        "    zone: south\n    cpus: 8",
        "no zone is called south",
        "north",
    ),
    "an unknown node": ("database: store1", "database: stor1", "no node is called stor1", "store1"),
    "no control plane": ("  control_plane: ctl1\n", "", "is missing", "control_plane"),
    "an address outside": ("10.77.0.13", "10.78.0.13", "outside 10.77.0.0/24", "widen network.range"),
    "the controller's address": ("address: 10.77.0.13", "address: 10.77.0.1", "controller's address", "of its own"),
    "the broadcast address": ("10.77.0.13", "10.77.0.255", "not an address for a machine", "between"),
    "the controller outside": ("controller: 10.77.0.1", "controller: 10.78.0.1", "outside", "give it an address"),
    "a router outside": ("router: 10.77.0.254", "router: 10.78.0.254", "not an address of", "in network.range"),
    "the controller as router": ("router: 10.77.0.254", "router: 10.77.0.1", "controller's address", "routes nothing"),
    "a node as router": ("router: 10.77.0.254", "router: 10.77.0.13", "the address of store1", "routes nothing"),
    "GPUs and no memory": ("    memory_mb: 16384\n", "", "needs memory_mb", "add memory_mb"),
    "a word for a number": ("cpus: 8", "cpus: many", "'many' will not do", "CPUs offered"),
    "a number as text": ("count: 4", 'count: "4"', "'4' will not do", ""),
    "a key twice": ("practice: true", "practice: true\npractice: false", "there twice", "remove one"),
    "a tab": ("  range:", "\trange:", "not YAML", "correct that line"),
}


def test_the_practice_and_the_example_site_are_consistent():
    sites = [parse_site(path.read_text()) for path in (PRACTICE, Path("inventory/example/site.yml"))]

    assert [site.name for site in sites] == ["practice", "harbour"]


@pytest.mark.parametrize(("good", "bad", "cause", "remedy"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_spec_names_line_cause_and_next_step(good, bad, cause, remedy):
    text = TEXT.replace(good, bad, 1)

    with pytest.raises(WrongSpec) as refusal:
        parse_site(text, name="site.yml")

    told = str(refusal.value.problems[0])
    assert cause in told
    assert remedy in told
    assert refusal.value.exit_code == 2


def test_every_name_that_the_database_maps_to_a_role_is_refused_to_nodes():
    lines = Path("playbooks/roles/postgres/templates/pg_ident.conf.j2").read_text().splitlines()
    mapped = {name for line in lines if not line.startswith("#") for name in line.split()[1:]}

    assert mapped
    assert mapped <= DATABASE_ROLES


@pytest.mark.parametrize(
    ("good", "bad", "word"),
    [
        ("cpus: 8", "cpus: many", "cpus: many"),
        ("10.77.0.13", "10.78.0.13", "10.78.0.13"),
        ("practice:", "practise:", "practise:"),
    ],
)
def test_the_line_is_the_one_to_correct(good, bad, word):
    text = TEXT.replace(good, bad, 1)

    with pytest.raises(WrongSpec) as refusal:
        parse_site(text)

    assert word in text.splitlines()[refusal.value.problems[0].line - 1]


def test_every_problem_is_told_at_once_in_the_order_of_the_file():
    text = TEXT.replace("practice: true", "practise: true").replace("cpus: 8", "cpus: many")

    with pytest.raises(WrongSpec) as refusal:
        parse_site(text)

    lines = [problem.line for problem in refusal.value.problems]
    assert len(lines) == 3
    assert lines == sorted(lines)


@pytest.mark.parametrize("text", ["", "- a list", "just words", "a: [1"])
def test_what_is_no_mapping_is_refused_with_a_first_step(text):
    with pytest.raises(WrongSpec) as refusal:
        parse_site(text)

    assert refusal.value.remedy
