"""The lock of a bundle: every artefact by digest, one a line so that a change reads well."""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from controlplane.contracts.strict import Strict
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import BadInput

Kind = Literal["deb", "wheel", "oci", "file", "model", "collection"]
Sha256 = Field(pattern=r"^[0-9a-f]{64}$")
# What a name of a file may be: it becomes a path below the bundle and a part of a URL.
FILENAME = r"^[A-Za-z0-9][A-Za-z0-9._+~-]*$"


class Artefact(Strict):
    """One pinned thing. `source` names no host: `debian:pool/…`, `pypi:NAME/VERSION`, `local:NAME`, `project:NAME`."""

    type: Kind
    name: str
    version: str
    filename: str = Field(pattern=FILENAME)
    source: str
    size_bytes: int = Field(ge=0)
    sha256: str = Sha256
    needed_by: tuple[str, ...]
    licence: str

    @property
    def key(self) -> tuple[str, str]:
        """Return what makes two artefacts the same thing in two versions."""
        return self.type, self.name


class Index(Strict):
    """A package index as the distribution signed it; `sha256` is that of its Packages file."""

    suite: str
    component: str
    date: datetime
    sha256: str = Sha256


class LockedDistribution(Strict):
    suite: str
    architecture: str
    indexes: tuple[Index, ...]


class Lock(Strict):
    """`recipe` is the digest of what the recipe asks for; `serial` counts the locks of one repository."""

    format: Literal[1] = 1
    serial: int = Field(ge=1)
    created_at: datetime
    recipe: str = Sha256
    distribution: LockedDistribution
    artefacts: tuple[Artefact, ...]

    def of(self, kind: Kind) -> tuple[Artefact, ...]:
        """Return the artefacts of one type."""
        return tuple(artefact for artefact in self.artefacts if artefact.type == kind)

    def choose(self, features: Iterable[str]) -> "Lock":
        """Return the lock of these features alone."""
        wanted = set(features)
        kept = tuple(artefact for artefact in self.artefacts if wanted & set(artefact.needed_by))
        return self.model_copy(update={"artefacts": kept})


def to_text(lock: Lock) -> str:
    """Return the one text form of a lock: sorted, an artefact a line."""
    facts = lock.model_dump(mode="json", exclude={"artefacts"})
    head = json.dumps(facts, ensure_ascii=False)[:-1]
    ordered = sorted(lock.artefacts, key=lambda artefact: (*artefact.key, artefact.version, artefact.filename))
    lines = ",\n".join(json.dumps(artefact.model_dump(mode="json"), ensure_ascii=False) for artefact in ordered)
    return f'{head}, "artefacts": [\n{lines}\n]}}\n'


def digest_of(lock: Lock) -> str:
    """Return the SHA-256 of the text form."""
    return sha256_hex(to_text(lock).encode())


def read_lock(path: Path) -> Lock:
    """Read a lock; raises BadInput that names what is wrong with it."""
    try:
        return Lock.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist", remedy=f"make it: redoubt bundle lock --lock {path}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"{path} is no lock: {where}: {first['msg']}", remedy="lock anew: redoubt bundle lock") from None
