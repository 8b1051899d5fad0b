"""`python -m controlplane.main.gpu_layout show|apply LAYOUT`: cut this node's GPUs as declared, and say how they are.

LAYOUT is JSON, or @FILE with it: [{"type": "h100", "count": 4, "mig": ["3g.40gb", "3g.40gb"]}, ...]. Prints JSON; exits
0 when all is as declared, 1 when it is not.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from controlplane.agent.mig_layout import CannotCut, DeclaredLayout, GpuCut, apply_cuts, read_cuts
from controlplane.contracts.admin import DeclareGpus

LAYOUT = TypeAdapter(tuple[DeclareGpus, ...])


def main() -> int:
    """Do what the words say."""
    parser = argparse.ArgumentParser(prog="python -m controlplane.main.gpu_layout", description=__doc__)
    parser.add_argument("verb", choices=("show", "apply"))
    parser.add_argument("layout", help="what the node declares, JSON")
    asked = parser.parse_args()
    try:
        declared = _read(asked.layout)
    except (OSError, ValidationError) as error:
        parser.error(f"LAYOUT: {error}")
    try:
        before = read_cuts(declared)
        after = apply_cuts(declared) if asked.verb == "apply" else before
    except CannotCut as problem:
        return _tell((), changed=True, problem=str(problem))
    return _tell(after, changed=before != after, problem="")


def _read(layout: str) -> list[DeclaredLayout]:
    text = Path(layout[1:]).read_text() if layout.startswith("@") else layout
    return [DeclaredLayout(gpus.type, gpus.count, gpus.mig) for gpus in LAYOUT.validate_json(text)]


def _tell(gpus: tuple[GpuCut, ...], *, changed: bool, problem: str) -> int:
    is_done = not problem and all(gpu.is_done for gpu in gpus)
    told = {"done": is_done, "changed": changed, "problem": problem, "gpus": [asdict(gpu) for gpu in gpus]}
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    return 0 if is_done else 1


if __name__ == "__main__":
    sys.exit(main())
