"""How one event is written down (T13): one line, one form, whatever somebody puts into a name."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cli.audit import _visible
from controlplane.domains.audit import rules
from controlplane.domains.audit.types import Actor, Personal, Role
from controlplane.verifier.redoubt_verify import check_unusual_entry

AROUND = rules.Surrounding(datetime(2026, 11, 27, tzinfo=UTC), "ctl1", "boot", "req_1", "ab" * 32, ("apr_1",))
ADA = Actor("usr_ada", Role.OPERATOR, source="10.0.0.1")


def compose(event: str = "node.cordoned", resource: str = "gpu1", **details: object) -> rules.Composed:
    return rules.compose("evt_" + "0" * 20, ADA, event, resource, details, around=AROUND, key=b"k")


@pytest.mark.parametrize(
    "text",
    ["a\nb", "\x1b[2J", "\u202eevil", "nul\0nul", "x" * 1_000_000, "\ud800", "e\u0301", '","v":2', "\u2028"],
    ids=["newline", "ansi", "bidi", "nul", "a megabyte", "surrogate", "not NFC", "quote", "line separator"],
)
def test_no_text_breaks_out_of_its_line(text: str):
    made = compose(resource=text, text=text)
    assert made.body.isprintable() or "\n" not in made.body
    assert "\0" not in made.body
    assert len(made.body.encode()) < 65_536
    assert check_unusual_entry(0, made.body).event_id == made.event_id
    assert _visible(json.loads(made.body)["object"]).isprintable()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_any_value_becomes_an_entry_that_the_verifier_knows(value: object):
    assert check_unusual_entry(0, compose(value=value).body).action == "node.cordoned"


def test_an_event_that_is_too_large_keeps_everything_but_its_details():
    made = compose(**{f"field_{i}": "x" * 4000 for i in range(40)})
    entry = json.loads(made.body)
    assert set(entry["details"]) == {"cut", "sha256"}
    assert (entry["actor"]["id"], entry["object"]) == ("usr_ada", "gpu1")


def test_what_is_personal_is_not_in_the_entry_and_is_committed_to():
    made = compose(event="user.created", name="Ada", who=Personal("Lovelace"), email="ada@x", count=1)
    entry = json.loads(made.body)
    assert entry["details"] == {"count": 1}
    assert json.loads(made.personal) == {"name": "Ada", "who": "Lovelace", "email": "ada@x", "source": "10.0.0.1"}
    assert entry["personal"] == rules.commit(b"k", "personal", made.personal)
    assert "10.0.0.1" not in made.body


def test_the_name_of_a_thing_is_no_secret():
    assert json.loads(compose(event="endpoint.created", name="chat").body)["details"] == {"name": "chat"}


@pytest.mark.parametrize(
    ("wall_s", "passed_s", "stepped"),
    [(1.0, 1.0, False), (1.9, 1.0, False), (2.1, 1.0, True), (-0.1, 1.0, True), (0.0, 1.5, True), (0.5, 1.0, False)],
)
def test_a_clock_that_was_set_is_noticed(wall_s: float, passed_s: float, stepped: bool):
    assert rules.is_step(timedelta(seconds=wall_s), timedelta(seconds=passed_s)) == stepped
