"""The exceptions of closure: one small file, a reason each, and none that is no longer needed."""

import tomllib
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from controlplane.bundle.closure.finding import Finding
from controlplane.contracts.strict import Strict
from controlplane.kit.errors import BadInput


class Allowance(Strict):
    """A finding that is right as it is. `path` may be a folder, with a slash at its end; `what` is how it begins."""

    path: str
    kind: str
    what: str = ""
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Tell whether this is the reason for a finding."""
        inside = finding.path.startswith(self.path) if self.path.endswith("/") else finding.path == self.path
        return inside and finding.kind == self.kind and finding.what.startswith(self.what)


class _File(Strict):
    allowed: tuple[Allowance, ...] = ()


def read_allowances(path: Path) -> tuple[Allowance, ...]:
    """Return the exceptions; raises BadInput that names the entry."""
    try:
        return _File.model_validate(tomllib.loads(path.read_text()), strict=False).allowed
    except FileNotFoundError:
        return ()
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not TOML: {error}", remedy="correct the line that the message names") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(
            f"{path}: {where}: {first['msg']}", remedy="an entry has path, kind, what and a reason"
        ) from None


def without_allowed(
    findings: Iterable[Finding], allowances: tuple[Allowance, ...]
) -> tuple[tuple[Finding, ...], tuple[Allowance, ...]]:
    """Return the findings that nothing excuses, and the exceptions that excuse nothing."""
    found = tuple(findings)
    left = tuple(one for one in found if not any(allowance.covers(one) for allowance in allowances))
    idle = tuple(allowance for allowance in allowances if not any(allowance.covers(one) for one in found))
    return left, idle
