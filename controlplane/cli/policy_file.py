"""A policy set as a file that a person edits: YAML with the policies as one block of text."""

from pathlib import Path
from typing import Any  # what YAML holds has no narrower type

import yaml
from pydantic import ValidationError

from controlplane.contracts.policy import DraftSet, Example, PolicySetView
from controlplane.kit.errors import BadInput


def read_draft(path: Path) -> DraftSet:
    """Read a set; raises BadInput with the place of what is wrong."""
    try:
        given = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path} is no policy file: {error}", remedy="start from: redoubt policy show") from None
    try:
        return DraftSet.model_validate(given)
    except ValidationError as error:
        reasons = tuple(f"{'.'.join(map(str, e['loc'])) or path}: {e['msg']}" for e in error.errors())
        raise BadInput(f"{path}: {reasons[0]}", remedy="correct what is named", reasons=reasons) from None


def to_text(view: PolicySetView) -> str:
    """Return a set as such a file; reading it gives the same set."""
    examples = [_short(example) for example in view.examples]
    head = f"# policy set {view.version}, digest {view.digest or 'none: it does not load'}\n"
    held = {"note": view.note, "policies": _Block(view.policies), "examples": examples}
    return head + yaml.dump(held, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _short(example: Example) -> dict[str, Any]:
    return example.model_dump(mode="json", exclude_defaults=True)


class _Block(str):
    """Text that is written line by line."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    pass


def _write_block(dumper: yaml.SafeDumper, text: _Block) -> yaml.ScalarNode:
    return dumper.represent_scalar(yaml.SafeDumper.DEFAULT_SCALAR_TAG, str(text), style="|")


_Dumper.add_representer(_Block, _write_block)
