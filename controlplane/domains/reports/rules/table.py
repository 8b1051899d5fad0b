"""The report as CSV (RFC 4180) that no spreadsheet runs."""

import csv
import io
import re
from collections.abc import Iterator

from controlplane.contracts.reports import AccessReport
from controlplane.domains.reports.rules.words import Listing, Row, findings, instant, list_object, list_person

WIDTH = 9
HEAD = ("subject", "section", *(f"value {n}" for n in range(1, WIDTH + 1)), "entry", "proof")
# What spreadsheets take for a formula or a command, after blanks and in full width too (OWASP CSV injection)
FORMULA = re.compile(r"^[\s'\"]*[=+\-@|%\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]")


def to_csv(report: AccessReport) -> str:
    """Return one row for each line of the report; the first rows say what it is."""
    sink = io.StringIO()
    writer = csv.writer(sink, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(HEAD)
    for subject, section, values, entry, proof in _rows(report):
        padded = (*values, *[""] * (WIDTH - len(values)))
        writer.writerow([harmless(cell) for cell in (subject, section, *padded, entry, proof)])
    return sink.getvalue()


def harmless(cell: str) -> str:
    """Return a cell that stays text: a quote before it keeps a spreadsheet from reading it as a formula."""
    return f"'{cell}" if FORMULA.match(cell) else cell


def _rows(report: AccessReport) -> Iterator[tuple[str, str, Row, str, str]]:
    made = (report.site, instant(report.made_at), report.made_by, instant(report.began_at), instant(report.ended_at))
    yield "", "report", made, "", ""
    yield "", "policy digest", (report.policy_digest,), "", ""
    if report.checkpoint is not None:
        yield "", "checkpoint", (str(report.checkpoint.size), report.checkpoint.signer), "", report.checkpoint.note
    for text in findings(report):
        yield "", "finding", (text,), "", ""
    for person in report.principals:
        about = (person.kind, person.project, instant(person.created_at), instant(person.disabled_at))
        yield person.id, "principal", (person.name, *about, instant(person.last_seen_at)), "", ""
        for listing in list_person(person):
            yield from _listing(person.id, listing)
    for thing in report.objects:
        for listing in list_object(thing):
            yield from _listing(thing.object, listing)
    for text in report.not_covered:
        yield "", "not covered", (text,), "", ""


def _listing(subject: str, listing: Listing) -> Iterator[tuple[str, str, Row, str, str]]:
    for number, row in enumerate(listing.rows):
        line = listing.lines[number] if listing.lines else None
        yield subject, listing.title, row, line.entry if line else "", line.proof if line else ""
