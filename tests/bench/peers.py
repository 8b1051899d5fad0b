"""The gateways that ours is measured beside, from their own packages: `python -m tests.bench.peers` installs them.

They live in a virtual environment of their own under the cache (REDOUBT_CACHE, else ~/.cache/redoubt); nothing but the
benchmark installs or runs them. Versions are those of the figures that the goals come from.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import free_port

PINNED = ("sglang-router==0.3.2", "vllm-router==0.1.17", "litellm[proxy]==1.106.2", "granian==2.8.7", "uvloop==0.22.1")
MASTER_KEY = "sk-bench-0123456789abcdef"
VLLM_ROUTER, SGLANG_ROUTER, LITELLM = "vllm-router", "sglang-router", "litellm"
NAMES = (VLLM_ROUTER, SGLANG_ROUTER, LITELLM)
_ROUTERS = {VLLM_ROUTER: ("vllm_router", "round_robin"), SGLANG_ROUTER: ("sglang_router", "cache_aware")}
_QUIET = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1"}
_LITELLM = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_TELEMETRY": "False",
}


@dataclass(frozen=True)
class Peer:
    """One rival: how it is started between a port of its own and an engine, and the key that it wants."""

    command: tuple[str, ...]
    key: str
    environment: dict[str, str]
    is_slow: bool = False  # two hundred times slower: it gets less load, or it would only queue


def cache() -> Path:
    """Return the folder of the peers; it can be deleted at any time."""
    return Path(os.environ.get("REDOUBT_CACHE") or Path.home() / ".cache" / "redoubt") / "peers"


def find_nginx() -> str | None:
    """Return nginx: the machine's own, else Debian's package unpacked in the cache."""
    unpacked = cache() / "nginx/usr/sbin/nginx"
    return shutil.which("nginx") or (str(unpacked) if unpacked.exists() else None)


def install() -> list[str]:
    """Install what is missing; return what could not be had, each with its reason."""
    return [*_install_nginx(), *_install_packages()]


def _install_nginx() -> list[str]:
    if find_nginx() is not None:
        return []
    folder = cache() / "nginx"
    folder.mkdir(parents=True, exist_ok=True)
    got = run("apt-get", "download", "nginx", at=folder)
    packages = list(folder.glob("nginx_*.deb"))
    if got or not packages:
        return [f"nginx: {got or 'no package came'}; install it with apt-get install nginx-light"]
    return [f"nginx: {reason}" for reason in (run("dpkg-deb", "-x", str(packages[0]), str(folder)),) if reason]


def _install_packages() -> list[str]:
    folder, stamp = cache() / "venv", cache() / "venv/pinned"
    if stamp.exists() and stamp.read_text() == "\n".join(PINNED):
        return []
    reason = run(sys.executable, "-m", "venv", "--clear", str(folder))
    reason = reason or run(str(folder / "bin/pip"), "install", "-q", *PINNED)
    if reason:
        return [f"vllm-router, sglang-router, litellm: {reason}"]
    stamp.write_text("\n".join(PINNED))
    return []


def run(*command: str, at: Path | None = None) -> str:
    """Return "" when it went well, else the last line of what it said."""
    try:
        environment = {**os.environ, **_QUIET}
        done = subprocess.run(command, check=False, cwd=at, capture_output=True, text=True, env=environment)
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it failed"])[-1]


def find_router(name: str, folder: Path, port: int, engines: tuple[int, ...]) -> Peer | None:
    """Return how to start a rival on `port` in front of the engines; None when it is not installed."""
    if not (cache() / "venv/pinned").exists():
        return None
    if name == LITELLM:
        return _litellm(folder, port, engines[0])
    package, policy = _ROUTERS[name]
    command = (
        *(str(cache() / "venv/bin/python"), "-m", f"{package}.launch_router", "--host", "127.0.0.1"),
        *("--port", str(port), "--policy", policy, "--log-level", "error"),
        *("--worker-urls", *(f"http://127.0.0.1:{engine}" for engine in engines)),
        *("--prometheus-port", str(free_port()), "--prometheus-host", "127.0.0.1"),
    )
    return Peer(command, MASTER_KEY, {})


def _litellm(folder: Path, port: int, engine: int) -> Peer:
    settings = folder / "litellm.yaml"
    settings.write_text(
        f"""
model_list:
- model_name: chat
  litellm_params: {{model: openai/chat, api_base: "http://127.0.0.1:{engine}/v1", api_key: none}}
general_settings: {{master_key: {MASTER_KEY}}}
litellm_settings: {{telemetry: false, drop_params: true}}
"""
    )
    command = (
        str(cache() / "venv/bin/litellm"), "--config", str(settings), "--host", "127.0.0.1", "--port", str(port),
        "--run_granian",
    )  # fmt: skip
    return Peer(command, MASTER_KEY, _LITELLM, is_slow=True)


if __name__ == "__main__":
    sys.exit("\n".join(install()) or None)
