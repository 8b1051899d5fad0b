"""The typed client of what the admin API says about the scheduler and about usage."""

from controlplane.client.admin import AdminClient
from controlplane.contracts import scheduler as shapes


class SchedulerClient(AdminClient):
    """One method a verb, as in AdminClient."""

    def show_scheduler(self, *, takes_over: bool = False) -> shapes.SchedulerView:
        return self.read("/scheduler", shapes.SchedulerView, takes_over=str(takes_over).lower())

    def apply(self, ask: shapes.AskApply) -> shapes.Apply:
        return self.send("POST", ("scheduler", "applies"), ask, shapes.Apply)

    def get_apply(self, apply_id: str) -> shapes.Apply:
        return self.send("GET", ("scheduler", "applies", apply_id), None, shapes.Apply)

    def report_requests(self, **asked: str) -> shapes.RequestsUsage:
        return self.read("/usage/requests", shapes.RequestsUsage, **asked)

    def report_usage(self, **asked: str) -> shapes.Usage:
        return self.read("/usage", shapes.Usage, **asked)
