"""What a lock holds, as the names by which roles ask for it."""

from importlib.metadata import packages_distributions
from ipaddress import IPv4Network

from controlplane.bundle.closure.commands import normal
from controlplane.bundle.closure.finding import Held
from controlplane.bundle.lock import Lock

# Python modules of Debian packages, which node modules of Ansible may use.
OF_DEBS = {"python3-apt": ("apt", "apt_pkg", "apt_inst")}
# Ansible brings its own side of a module to the node.
OF_ANSIBLE = ("ansible",)
PROJECT = "redoubt"


def hold(lock: Lock, *, models: frozenset[str], hosts: frozenset[str], networks: tuple[IPv4Network, ...]) -> Held:
    """Return what may be reached: the artefacts of a lock, and the names and networks of a site."""
    debs = frozenset(deb.name for deb in lock.of("deb"))
    wheels = frozenset(normal(wheel.name) for wheel in lock.of("wheel")) | {PROJECT}
    carried = frozenset(word for model in lock.of("model") for word in (model.name, model.filename))
    return Held(
        debs=debs,
        wheels=wheels,
        images=frozenset(image.name for image in lock.of("oci")),
        models=carried | models,
        collections=frozenset(collection.name for collection in lock.of("collection")),
        hosts=hosts,
        networks=networks,
        imports=_imports(debs, wheels),
    )


def _imports(debs: frozenset[str], wheels: frozenset[str]) -> frozenset[str]:
    """Return what Python on a node can import beyond the standard library."""
    ours = packages_distributions()
    of_wheels = {module for module, names in ours.items() if any(normal(name) in wheels for name in names)}
    of_debs = {module for deb, modules in OF_DEBS.items() if deb in debs for module in modules}
    return frozenset({*of_wheels, *of_debs, *OF_ANSIBLE, "controlplane"})
