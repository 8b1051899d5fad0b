from datetime import datetime, timedelta

ENROLMENT_LIFETIME = timedelta(hours=1)


def is_live(now: datetime, expires_at: datetime | None, revoked_at: datetime | None) -> bool:
    """Say whether a key counts now."""
    return revoked_at is None and (expires_at is None or now < expires_at)
