"""A QR code as a terminal shows it."""

from io import StringIO

import segno


def to_qr(text: str) -> str:
    """Return half-block characters, two rows of modules a line."""
    out = StringIO()
    segno.make(text, micro=False).terminal(out, compact=True, border=2)
    return out.getvalue()
