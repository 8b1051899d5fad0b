"""The weights are the ones that were chosen, byte for byte, or nothing starts."""

import asyncio
import hashlib
from pathlib import Path

from controlplane.runner.surroundings import FAILED, RunOver

CHUNK_BYTES = 8 * 1024 * 1024


async def verify_weights(path: Path, sha256: str) -> None:
    """Read the whole file; raises RunOver when it is missing or is not the one that was named."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as weights:
            while chunk := await asyncio.to_thread(weights.read, CHUNK_BYTES):
                await asyncio.to_thread(digest.update, chunk)
    except OSError as error:
        raise RunOver(FAILED, f"the model file cannot be read: {error}") from None
    if digest.hexdigest() != sha256:
        raise RunOver(FAILED, f"{path} has SHA-256 {digest.hexdigest()}, not {sha256}: pull the model again")
