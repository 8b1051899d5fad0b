"""What a policy question is about."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """One thing that may be acted on; what is unknown of it is what is most restrictive.

    `project` is the tenant that owns it ("" is the site itself), `classification` 0 (public) to 3 (secret),
    `jurisdictions` the ISO 3166 codes in which it may be (none: only in its own zone).
    """

    kind: str
    id: str
    project: str = ""
    zone: str = ""
    classification: int = 0
    jurisdictions: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.id
