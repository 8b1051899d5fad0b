"""What Debian packages say about each other: control stanzas and their relation fields (Debian policy 5 and 7)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from controlplane.bundle.versions import satisfies

_RELATION = re.compile(
    r"^(?P<name>[a-z0-9][a-z0-9+.-]*)(?::(?P<qualifier>[a-z0-9-]+))?\s*(?:\((?P<operator><<|<=|=|>=|>>)\s*(?P<version>[^)\s]+)\s*\))?$"
)


@dataclass(frozen=True)
class Relation:
    """One name of a relation field, as in `libc6:any (>= 2.36)`."""

    name: str
    qualifier: str = ""
    operator: str = ""
    version: str = ""

    def __str__(self) -> str:
        name = f"{self.name}:{self.qualifier}" if self.qualifier else self.name
        return f"{name} ({self.operator} {self.version})" if self.operator else name

    def admits(self, version: str) -> bool:
        """Tell whether a package of this version is meant."""
        return not self.operator or satisfies(version, self.operator, self.version)


Clause: TypeAlias = tuple[Relation, ...]


def parse_relations(text: str) -> tuple[Clause, ...]:
    """Parse a relation field; each clause is a choice. Raises ValueError that names the piece it cannot read."""
    return tuple(
        tuple(_relation(piece.strip()) for piece in clause.split("|")) for clause in text.split(",") if clause.strip()
    )


def _relation(piece: str) -> Relation:
    match = _RELATION.match(piece)
    if match is None:
        raise ValueError(f"not a relation between packages: {piece}")
    return Relation(*(match[group] or "" for group in ("name", "qualifier", "operator", "version")))


def clause_text(clause: Clause) -> str:
    """Return a clause as its field spells it."""
    return " | ".join(map(str, clause))


def parse_stanza(text: str) -> dict[str, str]:
    """Parse one control stanza; continuation lines keep their leading blank."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line[:1] in {" ", "\t"}:
            fields[name] += "\n" + line
        elif line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


@dataclass(frozen=True, eq=False)
class Package:
    """One package of an index; `archive` is the name of the archive that holds its file."""

    fields: dict[str, str] = field(repr=False)
    archive: str = ""

    @cached_property
    def name(self) -> str:
        return self.fields["Package"]

    @cached_property
    def version(self) -> str:
        return self.fields["Version"]

    @cached_property
    def depends(self) -> tuple[Clause, ...]:
        """Return what must be there, pre-dependencies first."""
        return self._relations("Pre-Depends") + self._relations("Depends")

    @cached_property
    def excludes(self) -> tuple[Relation, ...]:
        """Return what must not be there at the same time."""
        return tuple(clause[0] for clause in self._relations("Conflicts") + self._relations("Breaks"))

    @cached_property
    def provides(self) -> tuple[Relation, ...]:
        return tuple(clause[0] for clause in self._relations("Provides"))

    @property
    def is_essential(self) -> bool:
        return self.fields.get("Essential") == "yes" or self.fields.get("Priority") == "required"

    def is_for(self, qualifier: str) -> bool:
        """Tell whether a relation with this architecture qualifier can mean this package."""
        if qualifier == "any":
            return self.fields.get("Multi-Arch") == "allowed"
        return qualifier in {"", "native", self.fields["Architecture"]}

    def _relations(self, name: str) -> tuple[Clause, ...]:
        return parse_relations(self.fields.get(name, ""))


def parse_index(text: str, archive: str, architecture: str) -> Iterator[Package]:
    """Read the packages of a Packages file that this architecture can install."""
    for stanza in text.split("\n\n"):
        if stanza.strip():
            package = Package(parse_stanza(stanza), archive)
            if package.fields.get("Architecture") in {architecture, "all"}:
                yield package
