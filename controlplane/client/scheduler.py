"""The typed client of what the admin API says about the scheduler and about usage."""

from controlplane.client.admin import AdminClient
from controlplane.contracts import scheduler as shapes
from controlplane.kit.paging import MOST_ROWS


class SchedulerClient(AdminClient):
    """One method a verb, as in AdminClient."""

    def show_scheduler(self, *, takes_over: bool = False) -> shapes.SchedulerView:
        return self.read("/scheduler", shapes.SchedulerView, takes_over=str(takes_over).lower())

    def apply(self, ask: shapes.AskApply) -> shapes.Apply:
        return self.send("POST", ("scheduler", "applies"), ask, shapes.Apply)

    def get_apply(self, apply_id: str) -> shapes.Apply:
        return self.send("GET", ("scheduler", "applies", apply_id), None, shapes.Apply)

    def report_requests(self, most: int | None, **asked: str) -> shapes.RequestsUsage:
        """Return the first rows, or all for None, page by page; rows that grow meanwhile may be missed."""
        found = self._read_requests(most, **asked)
        while found.cursor is not None and (most is None or len(found.rows) < most):
            left = None if most is None else most - len(found.rows)
            told = {"since": found.since.isoformat(), "until": found.until.isoformat(), "cursor": found.cursor}
            later = self._read_requests(left, **asked | told)
            rows = found.rows + later.rows
            found = found.model_copy(update={"rows": rows, "more": later.more, "cursor": later.cursor})
        return found

    def _read_requests(self, most: int | None, **asked: str) -> shapes.RequestsUsage:
        limit = MOST_ROWS if most is None else min(most, MOST_ROWS)
        return self.read("/usage/requests", shapes.RequestsUsage, limit=str(limit), **asked)

    def report_usage(self, **asked: str) -> shapes.Usage:
        return self.read("/usage", shapes.Usage, **asked)
