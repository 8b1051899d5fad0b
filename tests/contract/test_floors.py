"""The import floors hold (tools/check runs them); here each of them is broken once to see that it would be noticed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source import ROOT

CASES = {
    "Floors": ("controlplane/kit/ids.py", "import controlplane.contracts.agent"),
    "Floors, between rooms of one floor": ("controlplane/gateway/broken.py", "import controlplane.runner"),
    "Floors, a package nobody placed": ("controlplane/surprise/__init__.py", ""),
    "Domains": ("controlplane/domains/audit/service.py", "import controlplane.domains.fleet.types"),
    "Domains, one nobody placed": ("controlplane/domains/surprise/__init__.py", ""),
    "Inside a domain": ("controlplane/domains/fleet/rules.py", "import controlplane.domains.fleet.store"),
    "Inside a domain, a file nobody placed": ("controlplane/domains/fleet/extras.py", ""),
    "Data plane": ("controlplane/agent/broken.py", "import sqlalchemy"),
    "Data plane, by way of a domain": ("controlplane/gateway/broken.py", "import controlplane.domains.audit.service"),
    "Migrations": ("controlplane/migrations/env.py", "import controlplane.domains.audit.service"),
    "Rules, types, contracts": ("controlplane/contracts/agent.py", "import socket"),
    "Rules, types, contracts, a domain's rules": ("controlplane/domains/fleet/rules.py", "import httpx"),
    "Rules, types, contracts, by way of kit": ("controlplane/sitespec/spec.py", "import controlplane.kit.loop"),
}


@pytest.mark.parametrize(("title", "path", "line"), [(t, p, line) for t, (p, line) in CASES.items()], ids=list(CASES))
def test_a_broken_floor_is_noticed(title: str, path: str, line: str, tmp_path: Path):
    tree = copy_of_the_package(tmp_path)
    broken = tree / path
    broken.parent.mkdir(exist_ok=True)
    before = broken.read_text() if broken.exists() else ""
    broken.write_text(f"{before}\n{line}\n")

    rc, output = lint_imports(tree)

    assert rc == 1, output
    assert any(title.partition(",")[0] in entry and "BROKEN" in entry for entry in output.splitlines()), output


def test_an_unbroken_copy_passes(tmp_path: Path):
    rc, output = lint_imports(copy_of_the_package(tmp_path))

    assert rc == 0, output


@pytest.mark.parametrize("process", ["agent", "gateway", "runner"])
def test_a_process_of_the_data_plane_loads_no_database_code(process: str):
    if not (ROOT / f"controlplane/main/{process}.py").exists():
        pytest.skip(f"there is no {process} yet")
    code = f"import sys, controlplane.main.{process}; print([m for m in ('sqlalchemy', 'asyncpg') if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == "[]\n"


def copy_of_the_package(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "controlplane", folder / "controlplane", ignore=ignored)
    shutil.copy(ROOT / ".importlinter", folder)
    return folder


def lint_imports(tree: Path) -> tuple[int, str]:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr
