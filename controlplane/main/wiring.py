"""What several processes with a database wire alike."""

from controlplane.kit.clock import SystemClock
from controlplane.kit.tls import client_context
from controlplane.kit.tx import Database
from controlplane.main.settings import Database as DatabaseSettings


def open_database(settings: DatabaseSettings) -> Database:
    tls = None if settings.tls is None else client_context(settings.tls.ca, settings.tls.files)
    return Database(settings.url, SystemClock(), tls=tls, pool=settings.pool)
