import csv
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.reports.rules.compose import compose
from controlplane.domains.reports.rules.page import to_html
from controlplane.domains.reports.rules.print import to_pdf
from controlplane.domains.reports.rules.table import harmless, to_csv
from tests.domains.reports.facts import (
    CHECKPOINT,
    EVENTS,
    EVIDENCE,
    HEADING,
    NOTE,
    PERIOD,
    a_report,
    event,
    person,
    span,
)

HOSTILE = [
    "<script>alert(1)</script>",
    "=cmd|'/c calc'!A1",
    "\u202egnp.exe",
    "&lt;b&gt;",
    '"><img src=x onerror=y>',
    "a\nb,c\r\n=d",
]


def hostile_report():
    people = [person(name, span(name, 0, by=name)) for name in HOSTILE]
    events = [event(i, people[0].id, f"node.{name}", name, zone=name) for i, name in enumerate(HOSTILE, 1)]
    return compose(HEADING, PERIOD, people, {}, events, {})


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_every_line_of_the_csv_has_its_entry_and_its_proof():
    rows = [row for row in cells(to_csv(a_report())) if row[1] == "Privileged actions"]
    assert rows[0][-2:] == ['{"event_id":"evt_2"}', "proof of evt_2"]
    assert {len(row) for row in cells(to_csv(a_report()))} == {13}


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "'=1", "\uff1d1", "%0A", "|calc", "\n=1"]
)
def test_no_cell_is_a_formula(cell: str):
    assert harmless(cell) == f"'{cell}"


@given(st.text())
def test_no_text_at_all_becomes_a_formula(text: str):
    assert not re.match(r"[=+\-@\t\r]", harmless(text))


def test_no_cell_of_a_hostile_report_is_a_formula():
    found = [cell for row in cells(to_csv(hostile_report())) for cell in row if re.match(r"\s*[=+@\-\t]", cell)]
    assert found == []


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.add(tag)
        self.attributes.update(attrs)


@pytest.mark.parametrize("make", [a_report, hostile_report])
def test_the_page_fetches_and_runs_nothing(make):
    page = Page(to_html(make()))
    assert (
        page.tags & {"script", "img", "link", "iframe", "object", "embed", "form", "a", "base", "image", "use"} == set()
    )
    names = {name for name, _ in page.attributes}
    assert not [name for name in names if name.startswith("on")]
    assert names & {"href", "src", "style", "xlink:href", "srcset", "action"} == set()


def test_the_page_allows_its_own_style_and_nothing_else():
    text = to_html(a_report())
    assert "default-src 'none'; style-src 'sha256-" in text
    assert "url(" not in text
    assert "@import" not in text


def test_words_from_outside_stay_words_in_the_page():
    text = to_html(hostile_report())
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text


def test_the_page_has_pictures_of_the_roles_and_of_each_persons_time():
    text = to_html(a_report())
    assert text.count("<svg viewBox") == 5  # the QR code too
    assert "granted by user_mallory" in text
    assert "mallory: platform-admin, in conflict" in text


def test_the_page_says_first_what_to_look_at():
    text = to_html(a_report())
    assert "mallory: platform-admin and security-admin since 2026-04-06 00:00:00Z" in text
    assert "sleeper: could sign in, and has not for 130 days" in text


def test_a_page_with_nothing_to_find_says_so():
    assert "Nothing: no duty conflict" in to_html(compose(HEADING, PERIOD, [], {}, [], {}))


def test_the_pdf_is_the_same_bytes_for_the_same_report():
    one, two = to_pdf(a_report()), to_pdf(a_report())
    assert one == two
    assert one.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", one)) >= 5


def test_the_pdf_bears_hostile_words_and_very_long_ones():
    many = [event(1, "user_ada", "node.declared", "x" * 5000), *EVENTS]
    assert to_pdf(hostile_report()).startswith(b"%PDF-")
    assert to_pdf(compose(HEADING, PERIOD, [person("ada")], {}, many, EVIDENCE)).startswith(b"%PDF-")


def test_a_report_of_many_people_has_as_many_pages():
    people = [person(f"p{i}", span("operator", 0)) for i in range(60)]
    report = compose(HEADING, PERIOD, people, {}, [], {})
    assert len(re.findall(rb"/Type\s*/Page\b", to_pdf(report))) >= 60
    assert to_html(report).count("<section><h2>p") == 60


def test_a_checkpoint_that_many_witnesses_signed_still_fits_a_code():
    note = NOTE + "".join(f"\N{EM DASH} node{i}.example {'A' * 100}\n" for i in range(500))
    signed = a_report().model_copy(update={"checkpoint": CHECKPOINT.model_copy(update={"note": note})})
    assert to_html(signed).count("<svg viewBox") == 5
    assert to_pdf(signed).startswith(b"%PDF-")
