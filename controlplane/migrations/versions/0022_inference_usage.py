"""What requests used, added up by hour and day; where zones lie; and what keys may carry and when they are served."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

NAMES = {"share": 63, "workflow": 120, "agent": 120, "key": 120, "endpoint": 120, "model": 120, "zone": 120}
SUMS = (
    "calls", "failures", "untold", "retries", "tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning",
    "gpu_us", "queue_us", "duration_us", "ttft_us", "ttft_calls",
)  # fmt: skip


def upgrade() -> None:
    _add_requests()
    _add_sums()
    _add_zones()
    _add_bounds_of_keys()


def _word(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _add_requests() -> None:
    op.create_table(
        "inference_requests",
        _word("boot", 32),
        _number("line"),
        _word("request", 120),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        *(_word(name, length) for name, length in NAMES.items()),
        *(_word(name, 120) for name in ("run", "step", "revision", "replica", "surface", "priority", "code", "finish")),
        _word("result", 12),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        *(_number(name) for name in ("bytes_out", "context_tokens", "duration_us", "gpu_us", "queue_us", "retries")),
        *(
            _number(name, nullable=True)
            for name in (
                "itl_p50_us", "itl_p99_us", "tokens_cached", "tokens_in", "tokens_out", "tokens_reasoning", "ttft_us",
            )
        ),
        sa.PrimaryKeyConstraint("boot", "line", name=op.f("pk_inference_requests")),
    )  # fmt: skip
    op.create_index("ix_inference_requests_ended_at", "inference_requests", ["ended_at"])
    op.create_index("ix_inference_requests_request", "inference_requests", ["request"])
    op.execute("""
        create trigger inference_requests_never_change before update on inference_requests
        for each row execute function refuse_change()
    """)


def _add_sums() -> None:
    op.create_table(
        "inference_sums",
        _word("span", 4),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        *(_word(name, length) for name, length in NAMES.items()),
        *(_number(name) for name in SUMS),
        sa.PrimaryKeyConstraint("span", "starts_at", *NAMES, name=op.f("pk_inference_sums")),
    )


def _add_zones() -> None:
    op.create_table(
        "zone_declarations",
        _word("name", 63),
        _word("jurisdiction", 2),
        sa.Column("clearance", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("clearance between 0 and 3", name=op.f("ck_zone_declarations_clearance")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_zone_declarations")),
    )


def _add_bounds_of_keys() -> None:
    empty, first = sa.text("'{}'"), sa.text("'interactive'")
    codes = postgresql.ARRAY(sa.String(length=2))
    op.add_column("inference_keys", sa.Column("jurisdictions", codes, server_default=empty, nullable=False))
    op.add_column("inference_keys", sa.Column("priority", sa.String(12), server_default=first, nullable=False))
    for column in ("jurisdictions", "priority"):
        op.alter_column("inference_keys", column, server_default=None)


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
