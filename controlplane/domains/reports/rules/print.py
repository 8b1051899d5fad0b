"""The report as PDF, from the same tables and drawings as the page."""

import io
from collections.abc import Iterator
from html import escape

from reportlab.graphics.barcode.qr import QrCodeWidget
from reportlab.graphics.shapes import Drawing as Canvas
from reportlab.graphics.shapes import Rect, String
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, LongTable, PageBreak, Paragraph, SimpleDocTemplate, Spacer, TableStyle

from controlplane.contracts.reports import AccessReport
from controlplane.domains.reports.rules.picture import Drawing, draw_matrix, draw_timeline
from controlplane.domains.reports.rules.words import Listing, findings, instant, list_object, list_person, short_note

MARGIN = 14 * mm
ACROSS = A4[0] - 2 * MARGIN - 12  # a frame pads by six points on each side
MOST_IN_MATRIX = 30  # what fits a page below the heading; the HTML has them all
LONGEST_CELL = 300  # characters: a row must fit a page
BODY = ParagraphStyle("body", fontName="Vera", fontSize=8, leading=11)
CELL = ParagraphStyle("cell", parent=BODY, fontSize=6, leading=7.5, wordWrap="CJK")
TITLE = ParagraphStyle("title", parent=BODY, fontName="VeraBd", fontSize=16, leading=20)
PART = ParagraphStyle("part", parent=BODY, fontName="VeraBd", fontSize=11, leading=15, spaceBefore=9, spaceAfter=3)
SMALL = ParagraphStyle("small", parent=BODY, fontName="VeraBd", spaceBefore=6, spaceAfter=2)
ALARM = ParagraphStyle("alarm", parent=BODY, textColor=HexColor("#b91c1c"))
LINES = TableStyle([
    ("LINEBELOW", (0, 0), (-1, 0), 0.5, HexColor("#c9d2da")),
    ("ROWBACKGROUNDS", (0, 1), (-1, -1), [HexColor("#ffffff"), HexColor("#f6f8fa")]),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LEFTPADDING", (0, 0), (-1, -1), 2),
    ("RIGHTPADDING", (0, 0), (-1, -1), 2),
    ("TOPPADDING", (0, 0), (-1, -1), 1),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
])  # fmt: skip


def to_pdf(report: AccessReport) -> bytes:
    """Return the document; the same report gives the same bytes."""
    for name in ("Vera", "VeraBd"):
        registerFont(TTFont(name, f"{name}.ttf"))
    sink = io.BytesIO()
    title = f"Access report of {report.site}"
    document = SimpleDocTemplate(
        sink, pagesize=A4, leftMargin=MARGIN, rightMargin=MARGIN, topMargin=MARGIN, bottomMargin=MARGIN, title=title,
        author="Redoubt", invariant=1,
    )  # fmt: skip
    document.build([*_heading(report, title), *_people(report), *_objects(report), *_ending(report)])
    return sink.getvalue()


def _heading(report: AccessReport, title: str) -> Iterator[Flowable]:
    yield _text(title, TITLE)
    yield _text(f"{instant(report.began_at)} up to {instant(report.ended_at)}")
    yield _text(f"made {instant(report.made_at)} by {report.made_by}, policies {report.policy_digest[:16] or 'none'}")
    yield _text("What to look at first", PART)
    found = findings(report)
    yield from (_text(f"• {text}", ALARM) for text in found)
    if not found:
        yield _text("Nothing: no duty conflict, no break-glass, no dormant account.")
    if report.principals:
        yield _text("Who holds which role", PART)
        yield to_canvas(draw_matrix(report.principals[:MOST_IN_MATRIX], report))


def _people(report: AccessReport) -> Iterator[Flowable]:
    for person in report.principals:
        yield PageBreak()
        yield _text(person.name, PART)
        state = f"disabled {instant(person.disabled_at)}" if person.disabled_at else "enabled"
        seen = f"last seen {instant(person.last_seen_at)}" if person.last_seen_at else "never seen"
        yield _text(f"{person.kind} {person.id}, {person.project or 'the site itself'}, {state}, {seen}")
        yield Spacer(1, 4)
        yield to_canvas(draw_timeline(person, report))
        for listing in list_person(person):
            yield from _listing(listing)


def _objects(report: AccessReport) -> Iterator[Flowable]:
    for thing in report.objects:
        yield PageBreak()
        yield _text(thing.object, PART)
        for listing in list_object(thing):
            yield from _listing(listing)


def _ending(report: AccessReport) -> Iterator[Flowable]:
    yield PageBreak()
    yield _text("What this report does not answer", PART)
    yield from (_text(f"• {text}") for text in report.not_covered)
    yield _text("How to check it", PART)
    yield _text("The JSON form, and the folder of evidence beside this file, hold each event's bytes and its proof:")
    yield _text("redoubt_verify.py EVENT.tlog-proof --event EVENT.json --key KEY")
    if report.checkpoint is not None:
        yield _text(
            f"All proofs lead to this checkpoint of {report.checkpoint.size} events. Key: {report.checkpoint.signer}"
        )
        yield from (_text(line or " ") for line in report.checkpoint.note.splitlines())
        code = Canvas(45 * mm, 45 * mm)
        code.add(QrCodeWidget(short_note(report.checkpoint.note), barWidth=45 * mm, barHeight=45 * mm))
        yield code


def _listing(listing: Listing) -> Iterator[Flowable]:
    yield _text(listing.title, SMALL)
    if not listing.rows:
        yield _text("none")
        return
    cells = [[_text(cell, CELL) for cell in row] for row in (listing.head, *listing.rows)]
    yield LongTable(cells, colWidths=[ACROSS / len(listing.head)] * len(listing.head), repeatRows=1, style=LINES)


def _text(text: str, style: ParagraphStyle = BODY) -> Paragraph:
    """Return words as words: reportlab reads tags in them, so they are escaped."""
    whole = text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"
    return Paragraph(escape(whole), style)


def to_canvas(drawing: Drawing) -> Canvas:
    """Return a drawing for a page; its origin is below, ours above."""
    scale = ACROSS / drawing.width
    canvas = Canvas(ACROSS, drawing.height * scale)
    canvas.scale(scale, scale)
    for box in drawing.boxes:
        y = drawing.height - box.y - box.height
        colour = HexColor(box.colour)
        canvas.add(Rect(box.x, y, box.width, box.height, fillColor=colour, strokeColor=None, strokeWidth=0))
    for words in drawing.words:
        y = drawing.height - words.y
        fill = HexColor(words.colour)
        canvas.add(
            String(words.x, y, words.text, fontName="Vera", fontSize=10, fillColor=fill, textAnchor=words.anchor)
        )
    return canvas
