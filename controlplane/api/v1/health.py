"""Whether this process lives, and whether it can do its work."""

from fastapi import APIRouter
from sqlalchemy import text

from controlplane.web.transaction import Transaction

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(tx: Transaction) -> dict[str, str]:
    """Answer 503 with the cause while the database is away."""
    await tx.session.execute(text("select 1"))
    return {"status": "ok"}
