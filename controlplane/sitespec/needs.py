"""What a site needs from its bundle, by the names of the recipe: said before anything is rendered or touched."""

from collections.abc import Collection

from controlplane.kit.errors import Refused
from controlplane.sitespec.render import roles_of
from controlplane.sitespec.spec import Site

# The feature of images/bundle.toml that holds what a role installs; roles that are not named need the base alone.
FEATURE_OF = {
    "control_plane": "control-plane",
    "depot": "depot",
    "gateway": "gateway",
    "models": "inference",
    "node_base": "base",
    "node_time": "time",
    "postgres": "postgres",
    "slurm": "slurm",
}


def features_needed(site: Site) -> dict[str, str]:
    """Return the features that a site needs, each with a node that needs it."""
    needed: dict[str, str] = {}
    for node in site.nodes:
        for role in sorted(roles_of(site, node)):
            if role in FEATURE_OF:
                needed.setdefault(FEATURE_OF[role], node.name)
        if node.gpus and not site.practice:  # practice nodes have a simulated driver
            needed.setdefault("gpu-driver", node.name)
    return needed


def require_covered(site: Site, features: Collection[str], models: Collection[str]) -> None:
    """Raises Refused that names every feature and model that the site wants and the bundle lacks."""
    lacks = [f"{name} ({node})" for name, node in features_needed(site).items() if name not in features]
    missing = (*(f"feature {name}" for name in lacks), *(f"model {name}" for name in site.models if name not in models))
    if missing:
        raise Refused(
            f"the bundle does not cover {site.name}: it lacks {', '.join(missing)}",
            remedy="build a bundle with it: redoubt bundle build --feature NAME; or correct site.yml",
            code="bundle_short",
            reasons=tuple(f"{name} is missing" for name in missing),
        )
