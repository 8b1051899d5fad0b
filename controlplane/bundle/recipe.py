"""What a bundle is made of: `images/bundle.toml`, strict."""

import tomllib
from difflib import get_close_matches
from pathlib import Path

from pydantic import Field, ValidationError

from controlplane.contracts.strict import Strict
from controlplane.kit.errors import BadInput


class Distribution(Strict):
    """Where Debian packages come from; the mirror is whatever mmdebstrap uses on the machine that builds."""

    suite: str
    components: tuple[str, ...]
    architecture: str = "amd64"


class Python(Strict):
    """The interpreter of the nodes, and the extras of the project that nodes may install."""

    version: str
    glibc: int = Field(description="Newest manylinux_2_N tag that the nodes can load, up to 40.")
    extras: tuple[str, ...]


class Feature(Strict):
    """Something a site can have, and what it needs."""

    debs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


class Recipe(Strict):
    distribution: Distribution
    python: Python
    features: dict[str, Feature]

    @property
    def debs(self) -> tuple[str, ...]:
        return tuple(sorted({deb for feature in self.features.values() for deb in feature.debs}))

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(sorted({model for feature in self.features.values() for model in feature.models}))


def choose_features(recipe: Recipe, names: tuple[str, ...]) -> Recipe:
    """Return the recipe with these features alone; none named means all."""
    unknown = [name for name in names if name not in recipe.features]
    if unknown:
        near = get_close_matches(unknown[0], recipe.features, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(recipe.features))}"
        raise BadInput(f"no feature is called {unknown[0]}", remedy=remedy)
    chosen = {name: feature for name, feature in recipe.features.items() if not names or name in names}
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
