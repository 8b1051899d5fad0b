"""One report in the form that was asked for."""

from typing import assert_never

from controlplane.contracts.reports import AccessReport, Format
from controlplane.domains.reports.rules.page import to_html
from controlplane.domains.reports.rules.print import to_pdf
from controlplane.domains.reports.rules.table import to_csv


def to_form(report: AccessReport, form: Format) -> bytes:
    """Return the bytes of a file."""
    match form:
        case "json":
            return report.model_dump_json(indent=1).encode()
        case "csv":
            return to_csv(report).encode()
        case "html":
            return to_html(report).encode()
        case "pdf":
            return to_pdf(report)
        case _:
            assert_never(form)
