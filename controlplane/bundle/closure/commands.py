"""Commands that fetch: at the place of a command in a shell text, or in an argument list."""

import re
from collections.abc import Iterable, Iterator

from controlplane.bundle.closure.finding import Held, Hit

FETCHERS = {
    "curl", "wget", "aria2c", "axel", "lynx", "w3m", "lftp", "ftp", "sftp", "scp", "rsync", "telnet", "nc", "ncat",
    "netcat", "socat", "ssh", "nslookup", "dig", "drill", "ntpdate", "sntp", "git", "svn", "hg", "pip", "pip3",
    "pipx", "uv", "uvx", "conda", "mamba", "poetry", "npm", "npx", "yarn", "pnpm", "gem", "cargo", "rustup", "cpan",
    "cpanm", "composer", "snap", "flatpak", "docker", "podman", "nerdctl", "ctr", "crictl", "skopeo", "buildah",
    "helm", "ansible-galaxy", "huggingface-cli", "hf", "aws", "gsutil", "gcloud", "rclone", "dnf", "yum", "zypper",
    "apk", "pacman", "debootstrap", "mmdebstrap", "apt-key", "add-apt-repository", "apt-add-repository",
}  # fmt: skip
SUBCOMMANDS = {
    "apt": r"\b(?:install|update|upgrade|full-upgrade|download|build-dep)\b",
    "apt-get": r"\b(?:install|update|upgrade|dist-upgrade|download|source|build-dep)\b",
    "aptitude": r"\b(?:install|update|upgrade|download)\b",
    "go": r"\b(?:get|install)\b",
    "openssl": r"\bs_client\b",
    "git": r"\b(?:clone|pull|fetch|submodule|ls-remote|remote)\b",
}
SOURCES = {"apt", "apt-get", "aptitude"}  # in a list the subcommand may come from elsewhere
BEFORE = (
    r"(?:^\s*Exec\w+\s*=\s*[-+!:@]*|^\s*|[;&|(`]\s*|\$\(\s*|\btimeout\s+\S+\s+"
    r"|\b(?:sudo|exec|then|do|else|env|nohup|xargs|time)\s+)"
)
COMMAND = re.compile(rf"{BEFORE}(?:[\w.]+=\S*\s+)*(?:/[\w./-]*/)?([a-z][\w-]*)(?=$|[\s;&|)`])([^;&|]*)")
PIP_INSTALL = re.compile(r"\bpip3?\s+install\s+([^;&|]*)")


def fetching(text: str, held: Held) -> Iterator[Hit]:
    """Yield commands of a shell text that fetch something."""
    for name, rest in COMMAND.findall(text):
        if _fetches(name, rest) or (name in {"python", "python3"} and re.match(r"\s+-m\s+(?:pip|http|urllib)\b", rest)):
            yield Hit("tool", f"{name}{rest[:60].rstrip()}")
    for words in PIP_INSTALL.findall(text):
        yield from missing_wheels((word for word in words.split() if not word.startswith(("-", "/", "."))), held)


def fetching_list(words: Iterable[str]) -> Iterator[Hit]:
    """Yield what an argument list fetches: its program, and programs that it starts in turn."""
    listed = list(words)
    for index, word in enumerate(listed):
        name, rest = word.rpartition("/")[2], " ".join(listed[index + 1 :])
        starts = index == 0 or len(name) > 3 or "/" in word  # `go` and `hf` are also plain words
        if starts and (name in SOURCES or _fetches(name, f" {rest}")):
            yield Hit("tool", f"{name} {rest[:60]}".rstrip())
            return


def missing_wheels(names: Iterable[str], held: Held) -> Iterator[Hit]:
    """Yield Python packages that the lock does not hold."""
    for asked in names:
        name = re.split(r"[\[=<>!~;@ ]", asked.strip("\"'"), maxsplit=1)[0]
        if re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) and normal(name) not in held.wheels:
            yield Hit("wheel", name)


def normal(name: str) -> str:
    """Return the one spelling of a Python package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _fetches(name: str, rest: str) -> bool:
    if name in SUBCOMMANDS:
        return bool(re.search(SUBCOMMANDS[name], rest))
    return name in FETCHERS
