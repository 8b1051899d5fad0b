"""The audit log of a real site: who may write what in its database, and what happens without its key."""

import pytest
from lab.errors import LabError
from practice.site import PracticeSite

from controlplane.kit.note import parse_checkpoint, parse_note

pytestmark = pytest.mark.system

# on ctl1, with the settings that the service itself has; the role of the URL is replaced where a test says so
ATTEMPT = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import text
from controlplane.main.settings import ApiSettings, read_settings
from controlplane.main.wiring import open_database
settings = read_settings(ApiSettings, Path('/etc/redoubt/api.toml')).database
url = settings.url.replace('redoubt@', sys.argv[1] + '@')
async def main():
    database = open_database(settings.model_copy(update={'url': url}))
    async with database.transaction() as tx:
        print('done', (await tx.session.execute(text(sys.argv[2]))).rowcount)
try:
    asyncio.run(main())
except Exception as error:
    print(type(error).__name__, error)
"""
PYTHON = "/opt/redoubt/venv/bin/python"


def attempt(site: PracticeSite, role: str, statement: str) -> str:
    """Run a statement on ctl1 as the service's user and return what came of it."""
    site.lab.ssh("ctl1", f"cat > /tmp/attempt.py <<'END'\n{ATTEMPT}\nEND")
    return site.lab.ssh("ctl1", f'runuser -u redoubt -- {PYTHON} /tmp/attempt.py {role} "{statement}"').stdout


def test_the_service_can_add_to_the_log_and_change_nothing(site: PracticeSite) -> None:
    for statement in ("delete from audit_events", "update audit_leaves set hash = hash", "truncate audit_checkpoints"):
        assert "permission denied" in attempt(site, "redoubt", statement), statement
    assert attempt(site, "redoubt", "select count(*) from audit_events").startswith("done")


def test_the_service_is_not_the_owner_of_its_tables_and_cannot_become_it(site: PracticeSite) -> None:
    assert not attempt(site, "redoubt_owner", "select 1").startswith("done")
    key = site.lab.ssh("ctl1", "runuser -u redoubt -- cat /etc/redoubt/tls/database-owner.key || true")
    assert "PRIVATE" not in key.stdout


def test_the_sealed_log_lies_on_the_nodes_disk_under_the_sites_name(site: PracticeSite) -> None:
    state = parse_checkpoint(parse_note(site.lab.ssh("ctl1", "cat /var/lib/redoubt-audit/log/checkpoint").stdout).body)
    assert state.size > 0
    assert site.lab.ssh("ctl1", "stat -c %U:%a /var/lib/redoubt-audit").stdout.strip() == "redoubt:700"
    assert "evt_" in site.lab.ssh("ctl1", "cat /var/lib/redoubt-audit/segments/api-*.jsonl").stdout


def test_without_the_logs_key_the_site_takes_no_change_and_goes_on_serving(site: PracticeSite) -> None:
    site.lab.ssh("ctl1", "mv /etc/redoubt/audit.key /etc/redoubt/audit.key.away")
    try:
        with pytest.raises(LabError):
            site.redoubt("key", "create", "unrecorded")
        assert "audit.refused" in site.lab.ssh("ctl1", "journalctl -u redoubt-api -o cat -n 200").stdout
        assert site.ask().text
    finally:
        site.lab.ssh("ctl1", "mv /etc/redoubt/audit.key.away /etc/redoubt/audit.key")
