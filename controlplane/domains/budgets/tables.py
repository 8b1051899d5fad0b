from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.contracts.snapshot import BudgetScope, BudgetUnit
from controlplane.kit.tx import Table


class BudgetRow(Table):
    """A limit. It ends, it is never deleted. `most` and `exception` are amounts: of seconds, milliseconds."""

    __tablename__ = "budgets"
    __table_args__ = (
        CheckConstraint("most >= 0 and exception >= 0", name="amounts"),
        Index(
            "uq_budgets_live", "scope", "share", "name", "unit", "window",
            unique=True, postgresql_where=text("ended_at is null"),
        ),
    )  # fmt: skip

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    scope: Mapped[BudgetScope] = mapped_column(String(12))
    share: Mapped[str] = mapped_column(String(63), index=True)
    name: Mapped[str] = mapped_column(String(80))
    unit: Mapped[BudgetUnit] = mapped_column(String(20))
    window: Mapped[str] = mapped_column(String(8))
    most: Mapped[int] = mapped_column(BigInteger)
    exception: Mapped[int] = mapped_column(BigInteger)
    made_by: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class BudgetAccount(Table):
    """What one limit counts; its row is locked while anything of it is granted. Somebody was short at `short_at`."""

    __tablename__ = "budget_accounts"

    account: Mapped[str] = mapped_column(String(120), primary_key=True)
    budget_id: Mapped[str] = mapped_column(ForeignKey("budgets.id"), index=True)
    short_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    short_boot: Mapped[str] = mapped_column(String(32))


class BudgetHolder(Table):
    """One life of a gateway's worker, and the number of its last ask."""

    __tablename__ = "budget_holders"

    gateway: Mapped[str] = mapped_column(String(120), primary_key=True)
    boot: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    asked_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Allotment(Table):
    """What a life may use of an account in all, and what it used by its own word when it last asked."""

    __tablename__ = "allotments"
    __table_args__ = (CheckConstraint("granted >= 0 and used >= 0", name="amounts"),)

    account: Mapped[str] = mapped_column(ForeignKey("budget_accounts.account"), primary_key=True)
    gateway: Mapped[str] = mapped_column(String(120), primary_key=True)
    boot: Mapped[str] = mapped_column(String(32), primary_key=True)
    granted: Mapped[int] = mapped_column(BigInteger)
    used: Mapped[int] = mapped_column(BigInteger)
