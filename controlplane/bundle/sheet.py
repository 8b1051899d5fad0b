"""The transfer sheet of a bundle in parts: JSON for machines, a page to print and sign for people."""

import html
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from controlplane.bundle.contents import PART, SHEET
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.errors import Refused

TEXT, PAGE = "sheet.txt", "sheet.html"
FORMAT = 2
STYLE = """
@page { size: A4; margin: 15mm }
body { font: 10pt sans-serif; color: #000; background: #fff }
table { border-collapse: collapse; width: 100%; page-break-inside: auto }
tr { page-break-inside: avoid }
th, td { border: 0.5pt solid #555; padding: 1.5mm; text-align: left; vertical-align: top }
thead { display: table-header-group }
code { font: 9pt monospace }
.line { border-bottom: 0.5pt solid #000; height: 12mm; margin-top: 2mm }
"""


@dataclass(frozen=True)
class Part:
    number: int
    file: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Sheet:
    """`bundle` is the digest of the bundle; `size_bytes` and `sha256` are those of its tar."""

    bundle: str
    serial: int
    tar: str
    size_bytes: int
    sha256: str
    parts: tuple[Part, ...]


def sheet_bytes(sheet: Sheet) -> bytes:
    """Return the one byte form of a sheet; its SHA-256 stands on the printed page."""
    return canonical_json({"format": FORMAT, **asdict(sheet)})


def read_sheet(raw: bytes, name: str) -> Sheet:
    """Parse a sheet; raises Refused when it is not exactly what `sheet_bytes` writes."""
    try:
        value = json.loads(raw)
        parts = tuple(Part(**part) for part in value["parts"])
        sheet = Sheet(value["bundle"], value["serial"], value["tar"], value["size_bytes"], value["sha256"], parts)
        if sheet_bytes(sheet) != raw:
            raise ValueError("it is not what a split writes")
        for fault in _faults(sheet):
            raise ValueError(fault)
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{name} is altered: {error}", remedy="copy it again", code="sheet_altered") from None
    return sheet


def part_name(tar: str, number: int) -> str:
    """Return the file name of one part of a tar."""
    return f"{Path(tar).stem}.{number:03d}{PART}"


def _faults(sheet: Sheet) -> Iterator[str]:
    """Yield where the sheet contradicts itself; what it says of bytes is held against them by whoever reads them."""
    for number, part in enumerate(sheet.parts, start=1):
        if (part.number, part.file) != (number, part_name(sheet.tar, number)):
            yield f"its part {number} is not {part_name(sheet.tar, number)}"
    if sheet.size_bytes != sum(part.size_bytes for part in sheet.parts):
        yield "the sizes of its parts do not make that of the tar"


def write_sheets(folder: Path, sheet: Sheet) -> None:
    """Write the sheet in its three forms."""
    (folder / SHEET).write_bytes(sheet_bytes(sheet))
    (folder / TEXT).write_text(as_text(sheet))
    (folder / PAGE).write_text(as_page(sheet))


def as_text(sheet: Sheet) -> str:
    """Return the sheet as plain text, 80 columns wide."""
    lines = ["REDOUBT BUNDLE - TRANSFER SHEET", "", *(f"{name:<8} {value}" for name, value in _facts(sheet)), ""]
    for part in sheet.parts:
        lines += [
            f"[ ] part {part.number} of {len(sheet.parts)}  {part.file}  {part.size_bytes} bytes",
            f"    {grouped(part.sha256)[:35]}",
            f"    {grouped(part.sha256)[36:]}",
            "",
        ]
    for role in ("written by", "carried by", "read in by"):
        lines += [f"{role:<11} ______________________  on ________________  signature ________________", ""]
    return "\n".join(lines)


def as_page(sheet: Sheet) -> str:
    """Return the sheet as a page for A4 that needs nothing from outside."""
    facts = "".join(
        f"<tr><th>{name}</th><td><code>{html.escape(value)}</code></td></tr>" for name, value in _facts(sheet)
    )
    rows = "".join(
        f"<tr><td>{part.number}</td><td>{html.escape(part.file)}</td><td>{part.size_bytes}</td>"
        f"<td><code>{grouped(part.sha256)}</code></td><td></td><td></td></tr>"
        for part in sheet.parts
    )
    head = "".join(f"<th>{word}</th>" for word in ("part", "file", "bytes", "SHA-256", "written", "read in"))
    roles = "".join(
        f'<p>{role}: name, date, signature</p><div class="line"></div>' for role in ("Written", "Carried", "Read in")
    )
    meta = f'<meta charset="utf-8"><title>Transfer sheet</title><style>{STYLE}</style>'
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{meta}</head>'
        f"<body><h1>Redoubt bundle: transfer sheet</h1><table>{facts}</table><p></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{roles}</body></html>\n"
    )


def grouped(digest: str) -> str:
    """Return a digest in groups of eight, as it is read out."""
    return " ".join(digest[start : start + 8] for start in range(0, len(digest), 8))


def _facts(sheet: Sheet) -> list[tuple[str, str]]:
    return [
        ("bundle", grouped(sheet.bundle)),
        ("serial", str(sheet.serial)),
        ("tar", f"{sheet.tar}, {sheet.size_bytes} bytes, {len(sheet.parts)} parts"),
        ("sha-256", grouped(sheet.sha256)),
        ("sheet", grouped(sha256_hex(sheet_bytes(sheet)))),
    ]
