"""An isolation proof as a page for whoever audits the site: no scripts, nothing fetched, prints on white."""

from collections.abc import Iterable, Sequence
from html import escape

from controlplane.cli.proof_check import Checked
from controlplane.cli.proof_table import node_rows, surroundings, verdict_line

STYLE = """
body { font: 14px/1.45 sans-serif; max-width: 60rem; margin: 2rem auto; color: #111; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } tr { break-inside: avoid } code { word-break: break-all }
th, td { border: 1px solid #999; padding: .25rem .5rem; text-align: left }
.isolated { border-left: .5rem solid #060; padding-left: 1rem } .leaking, .inconclusive { border-left: .5rem solid #900;
padding-left: 1rem }
"""

SIGNED = (
    "All signatures were checked against the certificate of the site's authority when this page was written. "
    "The page itself is not signed: the proof is."
)


def page(checked: Checked) -> str:
    """Return the page."""
    proof = checked.proof
    facts = [
        ("Run", proof.run), ("Began", proof.started_at.isoformat()), ("Ended", proof.ended_at.isoformat()),
        ("Site spec, SHA-256", proof.spec_sha256), ("Bundle, SHA-256", proof.bundle_sha256),
    ]  # fmt: skip
    contexts = [
        (row.node, row.context, row.uid, row.attempts, row.blocked, row.leaked, row.note)
        for row in node_rows(checked.parts)
    ]
    kernel = [
        (name, part.loaded_sha256, ", ".join(f"{hook} {policy}" for hook, policy in sorted(part.policies.items())),
         part.witness.tried if part.witness else "unknown", part.witness.left if part.witness else "unknown")
        for name, part in sorted(checked.parts.items())
    ]  # fmt: skip
    heads = ("Node", "Context", "UID", "Attempts", "Blocked", "Leaked", "Remark")
    return "\n".join([
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Isolation proof of {escape(proof.site)}</title>',
        f"<style>{STYLE}</style><body><h1>Isolation proof of {escape(proof.site)}</h1>",
        f'<p class="{proof.verdict}"><strong>{escape(verdict_line(proof, checked.parts))}</strong></p>',
        _list(proof.reasons), "<h2>What it is of</h2>", _table(("", ""), facts),
        "<h2>Who tried to leave</h2>", _table(heads, contexts),
        "<h2>What the kernels counted</h2>",
        _table(("Node", "Rules in the kernel, SHA-256", "Policies", "Packets tried", "Packets that left"), kernel),
        "<h2>What was seen from outside</h2>", _list(surroundings(proof)),
        "<h2>What was not checked</h2>", _list(checked.not_checked),
        f"<p>{SIGNED}</p></body></html>",
    ]) + "\n"  # fmt: skip


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
