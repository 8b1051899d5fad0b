"""The report as one HTML file: nothing in it is fetched, nothing in it runs, and it prints."""

import io
from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from html import escape

import segno

from controlplane.contracts.reports import AccessReport, Checkpoint
from controlplane.domains.reports.rules.picture import Drawing, draw_matrix, draw_timeline
from controlplane.domains.reports.rules.words import Listing, findings, instant, list_object, list_person, short_note

STYLE = """
:root { color-scheme: light }
body { font: 14px/1.45 system-ui, sans-serif; color: #1c2733; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; border-bottom: 2px solid #2f6f9f }
h3 { font-size: .95rem; margin: 1.1rem 0 .2rem }
p.sub, .none { color: #55636f; margin: .2rem 0 }
table { border-collapse: collapse; width: 100%; font-size: 12px; font-variant-numeric: tabular-nums }
th { text-align: left; color: #55636f; font-weight: 600; border-bottom: 1px solid #c9d2da }
td, th { padding: 2px 8px 2px 0; vertical-align: top; overflow-wrap: anywhere }
tr:nth-child(even) td { background: #f6f8fa }
ul.alarm { border-left: 4px solid #b91c1c; background: #fdf3f2; padding: .6rem .8rem .6rem 2rem }
.numbers { clear: both; display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0 }
.numbers div { flex: 1 1 7rem; background: #eef2f5; padding: .5rem .7rem; border-radius: 4px }
.numbers b { display: block; font-size: 1.35rem }
svg { display: block; width: 100%; height: auto; margin: .5rem 0 }
svg.qr { width: 9rem; float: right; margin-left: 1rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #eef2f5; padding: .6rem; font-size: 11px }
@page { margin: 14mm }
@media print {
  body { margin: 0; max-width: none; font-size: 11px }
  h2 { break-after: avoid } svg, tr { break-inside: avoid }
  table { font-size: 9px } section { break-before: page }
}
"""


def to_html(report: AccessReport) -> str:
    """Return the page. Every word of it that came from somewhere is escaped; its one style is named by digest."""
    digest = b64encode(sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = f"Access report of {escape(report.site)}"
    return "".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>\n",
        *_heading(report, title),
        *_attention(report),
        *_overview(report),
        *_people(report),
        *_objects(report),
        *_ending(report),
        "</main></body></html>\n",
    ])  # fmt: skip


def _heading(report: AccessReport, title: str) -> Iterator[str]:
    yield _qr(report.checkpoint)
    yield f"<header><h1>{title}</h1>"
    yield f'<p class="sub">{instant(report.began_at)} up to {instant(report.ended_at)}</p>'
    yield f'<p class="sub">made {instant(report.made_at)} by {escape(report.made_by)}, policies '
    yield f"<code>{escape(report.policy_digest[:16] or 'none')}</code></p></header>\n"
    counts = {
        "principals": len(report.principals),
        "sessions": sum(len(p.sessions) for p in report.principals),
        "privileged actions": sum(len(p.privileged) for p in report.principals),
        "denials": sum(len(p.denials) for p in report.principals),
        "duty conflicts": sum(len(p.conflicts) for p in report.principals),
        "dormant": sum(p.dormant_days is not None for p in report.principals),
    }
    cards = "".join(f"<div><b>{number}</b>{name}</div>" for name, number in counts.items())
    yield f'<div class="numbers">{cards}</div>\n'


def _attention(report: AccessReport) -> Iterator[str]:
    found = findings(report)
    yield "<h2>What to look at first</h2>"
    yield (
        _bullets(found, "alarm")
        if found
        else '<p class="none">Nothing: no duty conflict, no break-glass, no dormant account.</p>'
    )


def _overview(report: AccessReport) -> Iterator[str]:
    if report.principals:
        yield "<h2>Who holds which role</h2>"
        yield to_svg(draw_matrix(report.principals, report))


def _people(report: AccessReport) -> Iterator[str]:
    for person in report.principals:
        state = f"disabled {instant(person.disabled_at)}" if person.disabled_at else "enabled"
        seen = f"last seen {instant(person.last_seen_at)}" if person.last_seen_at else "never seen"
        yield f"<section><h2>{escape(person.name)}</h2>"
        about = f"{person.kind} {person.id}, {person.project or 'the site itself'}, {state}, {seen}"
        yield f'<p class="sub">{escape(about)}</p>'
        yield to_svg(draw_timeline(person, report))
        yield from map(_listing, list_person(person))
        yield "</section>\n"


def _objects(report: AccessReport) -> Iterator[str]:
    for thing in report.objects:
        yield f"<section><h2>{escape(thing.object)}</h2>"
        yield from map(_listing, list_object(thing))
        yield "</section>\n"


def _ending(report: AccessReport) -> Iterator[str]:
    yield "<section><h2>What this report does not answer</h2>"
    yield _bullets(report.not_covered)
    yield "<h2>How to check it</h2><p>Every event above is a leaf of the site's log. The JSON form, and the folder of "
    yield "evidence beside this file, hold each leaf's bytes and its proof; check one, offline, with:</p>"
    yield "<pre>redoubt_verify.py EVENT.tlog-proof --event EVENT.json --key KEY</pre>"
    if report.checkpoint is not None:
        yield f"<p>All proofs lead to this checkpoint of {report.checkpoint.size} events. Take the key from where you "
        yield f"trust, not from here; it should be <code>{escape(report.checkpoint.signer)}</code></p>"
        yield f"<pre>{escape(report.checkpoint.note)}</pre>"
    yield "</section>"


def _listing(listing: Listing) -> str:
    if not listing.rows:
        return f'<h3>{listing.title}</h3><p class="none">none</p>'
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in listing.head)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in listing.rows)
    return f"<h3>{listing.title}</h3><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _bullets(texts: Iterable[str], kind: str = "") -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="{kind}">{items}</ul>\n'


def _qr(checkpoint: Checkpoint | None) -> str:
    """Draw the checkpoint for a telephone: who photographs it has a witness of the log."""
    if checkpoint is None:
        return ""
    sink = io.BytesIO()
    segno.make_qr(short_note(checkpoint.note), error="m").save(
        sink, kind="svg", xmldecl=False, svgns=False, omitsize=True, svgclass="qr", lineclass=None, border=2,
        title="The checkpoint of the log",
    )  # fmt: skip
    return sink.getvalue().decode()


def to_svg(drawing: Drawing) -> str:
    """Return a drawing as inline SVG, with presentation attributes alone: a style would be refused."""
    parts = [
        f'<svg viewBox="0 0 {drawing.width:g} {drawing.height:g}" role="img" font-family="sans-serif" font-size="10">',
        f"<title>{escape(drawing.title)}</title>",
    ]
    for box in drawing.boxes:
        size = f'x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}"'
        parts.append(f'<rect {size} fill="{box.colour}"><title>{escape(box.title)}</title></rect>')
    for words in drawing.words:
        place = f'x="{words.x:g}" y="{words.y:g}" text-anchor="{words.anchor}" fill="{words.colour}"'
        parts.append(f"<text {place}>{escape(words.text)}</text>")
    return "".join([*parts, "</svg>"])
