"""Slurm's own commands: for what slurmrestd has no call for, and for when it hangs or does not speak."""

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any  # Slurm's answers are JSON; what we read of them is checked where it is read

from controlplane.engines.slurm.tokens import Tokens
from controlplane.kit.errors import Unavailable

TIMEOUT_S = 12.0  # sacctmgr tries slurmdbd for ten


class Commands:
    """scontrol, sacctmgr and sacct, as the user that sees most; `--json` of them has the shapes of the REST API."""

    def __init__(self, folder: Path, tokens: Tokens, *, timeout_s: float = TIMEOUT_S) -> None:
        self._folder = folder
        self._tokens = tokens
        self._timeout_s = timeout_s

    async def run(self, program: str, *words: str) -> str:
        """Return what it prints; raises Unavailable with its own words when it fails or takes too long."""
        asker = self._tokens.overseer
        environment = {
            "SLURM_JWT": self._tokens.read(asker),
            "PATH": str(self._folder),
            "TZ": "UTC",  # times in and out are without a zone
            "SLURM_TIME_FORMAT": "standard",
            "SLURM_BITSTR_LEN": "0",
        }
        try:
            child = await asyncio.create_subprocess_exec(
                str(self._folder / program), *words, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
            )
        except OSError as error:
            raise Unavailable(
                f"{program} cannot be run: {error}", remedy="install slurm-client on the node of the control plane"
            ) from None
        said, complaint = await self._wait(child, program)
        if child.returncode != 0:
            reason = _last_line(complaint) or _last_line(said) or "no reason given"
            raise Unavailable(
                f"{program} {' '.join(words[:4])} failed: {reason}",
                remedy="on the controller look at: systemctl status slurmctld slurmdbd",
                reasons=(reason,),
            )
        return said.decode(errors="replace")

    async def read_json(self, program: str, *words: str) -> dict[str, Any]:
        """Return what it prints as JSON; errors in it count as a failure."""
        try:
            answer = json.loads(await self.run(program, "--json", *words))
        except ValueError:
            raise Unavailable(
                f"{program} --json printed something else", remedy="install a Slurm of this bundle on this node"
            ) from None
        if not isinstance(answer, dict) or answer.get("errors"):
            told = answer.get("errors") if isinstance(answer, dict) else answer
            raise Unavailable(f"{program} answered {told}", remedy="look at: systemctl status slurmctld slurmdbd")
        return answer

    async def _wait(self, child: asyncio.subprocess.Process, program: str) -> tuple[bytes, bytes]:
        try:
            return await asyncio.wait_for(child.communicate(), self._timeout_s)
        except TimeoutError:
            raise Unavailable(
                f"{program} took longer than {self._timeout_s:.0f} s",
                remedy="on the controller look at: systemctl status slurmctld slurmdbd",
            ) from None
        finally:
            if child.returncode is None:  # it hangs, or we are being stopped
                child.kill()
                await child.wait()


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
