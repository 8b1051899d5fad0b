"""What runners ask: register once, renew a lease. Their credentials are the nonce and the run's own token."""

from fastapi import APIRouter, Request

from controlplane.contracts.runs import Registered, RegisterRun, RenewedRun, RenewRun
from controlplane.domains.serving.service import runs
from controlplane.web.actor import Bearer, bearer_of
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["runs"])


@router.post("/runs", status_code=201)
async def register_run(body: RegisterRun, request: Request, tx: Transaction) -> Registered:
    lease_s: float = request.app.state.run_lease_s
    return Registered(run_token=await runs.register_run(tx, ask=body, lease_s=lease_s))


@router.post("/runs/{replica_id}/lease")
async def renew_run(
    replica_id: str, body: RenewRun, request: Request, tx: Transaction, credentials: Bearer
) -> RenewedRun:
    return await runs.renew_run(
        tx,
        replica_id=replica_id,
        token=bearer_of(credentials),
        ask=body,
        lease_s=request.app.state.run_lease_s,
    )
