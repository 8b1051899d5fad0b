"""Build the simulated driver library for practice nodes."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path

from lab.places import PRACTICE, cache
from lab.shell import run

SOURCE = PRACTICE / "nvml"
NAME = "libnvidia-ml.so.1"
FLAGS = (
    "-std=c11",
    "-O2",
    "-fPIC",
    "-shared",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-fno-ident",
    "-Wl,--build-id=none",
)
DEFINED = re.compile(r"^(?:nvmlReturn_t|const char \*)\s?\*?(nvml\w+)\(", re.MULTILINE)


def build_library() -> Path:
    """Return the simulated library, compiling it when its sources changed."""
    library = cache() / "nvml" / _digest() / NAME
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        _compile(library)
    return library


def stub_names() -> list[str]:
    """List what nvidia-ml-py wraps and the library only declines."""
    written = {name for path in SOURCE.glob("*.c") for name in DEFINED.findall(path.read_text())}
    return sorted(set((SOURCE / "names.txt").read_text().split()) - written)


def _digest() -> str:
    parts = [path.name.encode() + path.read_bytes() for path in sorted(SOURCE.glob("*.[ch]"))]
    parts += [(SOURCE / name).read_bytes() for name in ("names.txt", "nvml.map")]
    return hashlib.sha256(b"\0".join([*parts, " ".join(FLAGS).encode()])).hexdigest()[:16]


def _compile(library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        stubs = Path(folder) / "stubs.c"
        stubs.write_text("\n".join(_stub(name) for name in stub_names()))
        fresh = Path(folder) / NAME
        sources = [*(str(path) for path in sorted(SOURCE.glob("*.c"))), str(stubs)]
        links = [f"-Wl,--version-script={SOURCE / 'nvml.map'}", f"-Wl,-soname,{NAME}"]
        run("gcc", *FLAGS, f"-ffile-prefix-map={folder}=.", "-o", str(fresh), *sources, *links)
        fresh.replace(library)


def _stub(name: str) -> str:
    return f"int {name}(void);\nint {name}(void) {{ return 3; }} /* not supported */"
