"""What closure looks at, what may be reached and installed, and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

ANY = "\x01"  # stands for a part that only the run knows, where any value is right
UNKNOWN = "\x02"  # stands for a part that only the run knows, where it must be known before

REMEDIES = {
    "address": "take the address from an input that `redoubt site render` computes, or declare it in site.yml",
    "collection": "use ansible.builtin or a module in playbooks/library, or add the collection to images/bundle.toml",
    "file": "write it as text, or add it to images/bundle.toml and take it from the depot",
    "image": "add the image to images/bundle.toml, then: redoubt bundle lock",
    "import": "use the standard library, or add the package to pyproject.toml, then: make lock, redoubt bundle lock",
    "model": "add the model to images/bundle.toml or to `models` of site.yml, then: redoubt bundle lock",
    "module": "use packages_present, depot_python or model_weights, which install from the depot alone",
    "name service": "remove it: there is no name service inside the boundary, names come from /etc/hosts",
    "package": "add the package to images/bundle.toml, then: redoubt bundle lock",
    "proxy": "remove the proxy: nodes speak to the depot directly and to nobody else",
    "source": "remove it: node_base writes the only package source, the depot, with its signing key",
    "time": "take the time source from node_time_source, which site.yml declares under services.time",
    "tool": "remove the command: what it fetches comes from the depot through packages_present or depot_python",
    "wheel": "add the package to pyproject.toml, then: make lock, redoubt bundle lock",
}


@dataclass(frozen=True)
class Hit:
    """Something a text would fetch, install or contact."""

    kind: str
    what: str


@dataclass(frozen=True, order=True)
class Finding:
    """A hit at its place. `line` counts from 1."""

    path: str
    line: int
    kind: str
    what: str

    @property
    def remedy(self) -> str:
        return REMEDIES[self.kind]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}: {self.what}"


@dataclass(frozen=True)
class Held:
    """What the lock holds and the site declares; whatever else a role reaches for is a finding."""

    debs: frozenset[str] = frozenset()
    wheels: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    collections: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    networks: tuple[IPv4Network, ...] = ()
    imports: frozenset[str] = frozenset()


# A detector looks at one line of text, resolved as far as it can be before the run.
Detector = Callable[[str, Held], Iterator[Hit]]
