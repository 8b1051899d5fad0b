"""Does a lock cover what a recipe asks for? It is refused with everything that is missing."""

from collections.abc import Iterator
from pathlib import Path

from controlplane.bundle.lock import Lock
from controlplane.bundle.recipe import Recipe
from controlplane.bundle.wheels import normal, read_pins
from controlplane.kit.errors import Refused


def require_cover(lock: Lock, recipe: Recipe, pins: Path) -> None:
    """Raise Refused unless the lock pins everything that these features of the recipe need."""
    missing = tuple(_missing(lock, recipe, pins))
    if missing:
        raise Refused(
            f"the lock does not cover the recipe: {missing[0]}"
            + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""),
            remedy="lock anew: redoubt bundle lock",
            code="lock_does_not_cover",
            reasons=missing,
        )


def _missing(lock: Lock, recipe: Recipe, pins: Path) -> Iterator[str]:
    distribution = recipe.distribution
    locked = (lock.distribution.suite, lock.distribution.architecture)
    if locked != (distribution.suite, distribution.architecture):
        yield f"it is for {' '.join(locked)}, not for {distribution.suite} {distribution.architecture}"
    pinned = {(artefact.type, artefact.name, feature) for artefact in lock.artefacts for feature in artefact.needed_by}
    for name, feature in recipe.features.items():
        wanted = [("deb", deb) for deb in feature.debs]
        wanted += [(recipe.local[local].type, local) for local in feature.local]
        for kind, artefact in wanted:
            if (kind, artefact, name) not in pinned:
                yield f"no {kind} {artefact} for the feature {name}"
    yield from _missing_wheels(lock, pins)


def _missing_wheels(lock: Lock, pins: Path) -> Iterator[str]:
    wheels = {wheel.name: wheel for wheel in lock.of("wheel")}
    for pin in read_pins(pins):
        wheel = wheels.get(normal(pin.name))
        if wheel is None:
            yield f"no wheel {pin.name} {pin.version}"
        elif wheel.version != pin.version or wheel.sha256 not in pin.hashes:
            yield f"the wheel {pin.name} is {wheel.version}, and {pins} pins {pin.version}"
