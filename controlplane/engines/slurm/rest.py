"""HTTP to slurmrestd over its unix socket, and what its refusals mean."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Slurm's answers are JSON; what we read of them is checked where it is read

import httpx

from controlplane.engines.slurm.tokens import RENEWER, Tokens
from controlplane.kit.errors import Unavailable

TIMEOUT_S = 8.0  # slurmrestd needs four seconds to say that slurmctld is away
FIRST_REFUSAL = 2000  # slurm_errno.h: below are transport and authentication, from here on the controller's own noes
AUTHENTICATION = frozenset({httpx.codes.UNAUTHORIZED, 511})


class SlurmSaysNo(Unavailable):
    """Slurm answered, and the answer is no; only to a submission is that an answer."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__("; ".join(reasons), remedy="look at the log of slurmctld", reasons=reasons)


class SlurmRest:
    """One connection and one look at the token for every call: another user renews it, and slurmrestd restarts."""

    def __init__(self, socket: Path, tokens: Tokens) -> None:
        self._socket = socket
        self.tokens = tokens

    async def call(
        self,
        method: str,
        path: str,
        *,
        user: str = "",
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the answer to `user`, or to who sees most; raises SlurmSaysNo for a refusal, else Unavailable."""
        asker = user or self.tokens.overseer
        identity = {"X-SLURM-USER-NAME": asker, "X-SLURM-USER-TOKEN": self.tokens.read(asker)}
        try:
            async with self._connect() as http:
                answer = await http.request(method, path, json=body, params=query, headers=identity)
            content = answer.json()
        except httpx.HTTPError as error:
            raise Unavailable(
                f"slurmrestd does not answer on {self._socket}: {type(error).__name__}: {error}",
                remedy="on the controller look at: systemctl status slurmrestd",
            ) from None
        except ValueError:
            raise Unavailable(
                f"slurmrestd answered {path} with something that is not JSON",
                remedy="on the controller look at: journalctl -u slurmrestd",
            ) from None
        return self._check(answer.status_code, content, asker)

    def _connect(self) -> httpx.AsyncClient:
        no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # else each connection would load the CA certificates
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket), verify=no_tls)
        return httpx.AsyncClient(transport=transport, base_url="http://slurm", timeout=TIMEOUT_S, trust_env=False)

    def _check(self, status: int, content: Any, asker: str) -> dict[str, Any]:
        if status in AUTHENTICATION:
            raise Unavailable(
                f"Slurm does not accept the token in {self.tokens.path(asker)}",
                remedy=f"look at: systemctl status {RENEWER}, and compare the clocks",
            )
        if not isinstance(content, dict):
            raise Unavailable("slurmrestd gave an answer without a body", remedy="check the version of slurmrestd")
        errors = content.get("errors", [])
        if status == httpx.codes.OK and not errors:
            return content
        numbers = [int(error.get("error_number", 0)) for error in errors]
        if numbers and min(numbers) >= FIRST_REFUSAL:
            raise SlurmSaysNo(tuple(_tell(error) for error in errors))
        raise Unavailable(
            f"Slurm answered {status}: {'; '.join(_tell(error) for error in errors) or 'no reason given'}",
            remedy="on the controller look at: systemctl status slurmctld",
        )


def _tell(error: Mapping[str, Any]) -> str:
    return str(error.get("error") or error.get("description") or "no reason given")
