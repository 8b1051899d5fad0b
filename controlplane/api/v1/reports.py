"""The access report: who could, who did, and the evidence."""

import asyncio
from base64 import b64encode
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import AwareDatetime

from controlplane.contracts import reports as shapes
from controlplane.domains.reports import service as reports
from controlplane.domains.reports.rules.forms import to_form
from controlplane.kit.canonical import sha256_hex
from controlplane.web.actor import Person
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["reports"])


@router.get("/access-report")
async def read_access_report(
    request: Request,
    tx: Transaction,
    actor: Person,
    began_at: Annotated[AwareDatetime, Query(alias="from")],
    ended_at: Annotated[AwareDatetime, Query(alias="to")],
    principal: Annotated[shapes.PrincipalName | None, Query()] = None,
    thing: Annotated[shapes.ObjectName | None, Query(alias="object")] = None,
    form: Annotated[shapes.Format, Query(alias="format")] = "json",
) -> shapes.ReportFile:
    """Return the report of one principal, one object, or everybody. Reading it is on record."""
    ask = shapes.AskReport(principal=principal, object=thing, began_at=began_at, ended_at=ended_at)
    report = await reports.read_access_report(tx, actor, ask=ask, site=request.app.state.site)
    return await _to_file(report, form)


@router.post("/access-report-exports", status_code=201, response_model=shapes.ReportFile)
async def export_access_report(body: shapes.ExportReport, request: Request, call: Posted) -> Response:
    """Return the report to who is no auditor: a second person approved exactly this selection and form."""
    report = await reports.export_access_report(call.tx, call.actor, ask=body, site=request.app.state.site)
    return call.created(await _to_file(report, body.format), secret=True)  # a replay would ask no policy


async def _to_file(report: shapes.AccessReport, form: shapes.Format) -> shapes.ReportFile:
    content = await asyncio.to_thread(to_form, report, form)
    name = f"access-report-{report.site}-{report.ended_at:%Y-%m-%d}.{form}"
    return shapes.ReportFile(
        format=form, name=name, content=b64encode(content).decode(), sha256=sha256_hex(content), report=report
    )
