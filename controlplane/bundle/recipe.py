"""What a bundle is made of: `images/bundle.toml`, strict."""

import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from controlplane.bundle.lock import FILENAME
from controlplane.contracts.strict import Strict
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.errors import BadInput

BASE = "base"  # every node has it, so every bundle does


class Archive(Strict):
    """One archive of the distribution: the last folder of its mirrors' URLs, and the suites to read."""

    name: str
    suites: tuple[str, ...]


class Distribution(Strict):
    """Where Debian packages come from, but for the mirror: that is the business of the machine that locks.

    `signed_by` holds primary fingerprints; `keyring` is relative to the recipe.
    """

    archives: tuple[Archive, ...] = Field(min_length=1)
    components: tuple[str, ...]
    architecture: str = "amd64"
    keyring: str
    signed_by: tuple[str, ...] = Field(min_length=1)

    @property
    def suite(self) -> str:
        return self.archives[0].suites[0]


class Python(Strict):
    """The interpreter of the nodes."""

    version: str
    glibc: int = Field(description="Newest manylinux_2_N tag that the nodes can load, up to 40.")


class LocalArtefact(Strict):
    """Something that no index has: it is given as a file in a folder, and pinned by its digest."""

    type: Literal["oci", "file", "collection"]
    filename: str = Field(pattern=FILENAME)
    version: str
    licence: str


class Feature(Strict):
    """Something a site can have, and what it needs; `extras` are those of the product's own Python package."""

    debs: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    local: tuple[str, ...] = ()


class Terms(Strict):
    """How long a bundle may be installed, and the lowest serial that may be installed after it."""

    valid_days: int = Field(default=365, ge=1)
    floor: int = Field(default=1, ge=1)


class Recipe(Strict):
    trust: Terms = Terms()
    distribution: Distribution
    python: Python
    features: dict[str, Feature]
    local: dict[str, LocalArtefact] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_known(self) -> "Recipe":
        for name, feature in self.features.items():
            for wanted in feature.local:
                if wanted not in self.local:
                    raise ValueError(f"features.{name} names {wanted}, and there is no [local.{wanted}]")
        return self

    @property
    def debs(self) -> tuple[str, ...]:
        return _union(feature.debs for feature in self.features.values())

    @property
    def extras(self) -> tuple[str, ...]:
        return _union(feature.extras for feature in self.features.values())

    @property
    def models(self) -> tuple[str, ...]:
        return _union(feature.models for feature in self.features.values())

    @property
    def digest(self) -> str:
        """Return the digest of what is asked for; comments and the order of tables do not count."""
        asked = self.model_dump(mode="json", include={"distribution", "python", "features", "local"})
        return sha256_hex(canonical_json(asked))


def choose_features(recipe: Recipe, names: tuple[str, ...]) -> Recipe:
    """Return the recipe with these features and the base; none named means all."""
    unknown = [name for name in names if name not in recipe.features]
    if unknown:
        near = get_close_matches(unknown[0], recipe.features, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(recipe.features))}"
        raise BadInput(f"no feature is called {unknown[0]}", remedy=remedy)
    wanted = {BASE, *names} if names else set(recipe.features)
    chosen = {name: feature for name, feature in recipe.features.items() if name in wanted}
    return recipe.model_copy(update={"features": chosen})


def read_recipe(path: Path) -> Recipe:
    """Parse a recipe; raises BadInput that names the file and every wrong key."""
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist", remedy="give --features the path of a bundle.toml") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not TOML: {error}", remedy="correct the line that the message names") from None
    except ValidationError as error:
        reasons = tuple(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadInput(f"{path}: {reasons[0]}", remedy="correct the recipe", reasons=reasons) from None


def _union(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({name for group in groups for name in group}))
