"""Which stages a run visits, and what it tells the nodes about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # role inputs are free-form YAML

import yaml

from controlplane.cli.stages import Stage, chosen_stages, read_stages, wanted_on
from controlplane.kit.errors import BadInput

Yaml = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """What was asked for: some stages, all from one on, every one whatever its stamp says, or those that are due.

    `quick` believes the stamps of stages that were asked for by name, too.
    `also` are stages that are evaluated whatever their stamps say.
    """

    only: tuple[str, ...] = ()
    first: str | None = None
    every: bool = False
    quick: bool = False
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.only and self.first:
            raise BadInput("--stage and --from-stage exclude each other", remedy="give one of them")

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages to visit."""
        return chosen_stages(read_stages(), self.only, self.first)

    def playbooks(self) -> tuple[str, ...]:
        """Return the playbooks to run; the whole site is one file, because that is read once."""
        names = tuple(stage.name for stage in self.stages())
        return ("preflight", *names) if self.only or self.first else ("site",)

    def forced(self) -> tuple[str, ...]:
        """Return the stages whose stamps are not asked: those named, or every one."""
        named = self.only if not self.quick else ()
        named = tuple(stage.name for stage in self.stages()) if self.every else named
        return tuple(dict.fromkeys((*named, *self.also)))

    def words(self) -> tuple[str, ...]:
        """Return the choice as words, for a plan to keep."""
        only = [f"stage {name}" for name in self.only]
        return (
            *only,
            *([f"from {self.first}"] if self.first else []),
            *(["all"] if self.every else []),
            *(["quick"] if self.quick else []),
        )

    @staticmethod
    def of(words: Sequence[str]) -> "Choice":
        """Return the choice that a plan keeps."""
        first = next((word.removeprefix("from ") for word in words if word.startswith("from ")), None)
        only = tuple(word.removeprefix("stage ") for word in words if word.startswith("stage "))
        return Choice(only, first, every="all" in words, quick="quick" in words)


def stage_inputs(choice: Choice) -> Yaml:
    """Return the variables that tell the first play how to decide."""
    shared = {path for stage in read_stages() for here, there, _ in stage.copies for path in (here, there)}
    return {"stages_forced": choice.forced(), "stages_shared": sorted(shared)}


def stage_inventory(rendered: Path, given: Mapping[str, str], bundle: str, choice: Choice) -> Yaml:
    """Return what is added to the inventory: per node what each of its stages is made of, and the groups to fill."""
    stages, every = choice.stages(), yaml.safe_load((rendered / "hosts.yml").read_text())["all"]["children"]
    hosts = {}
    for host in every["nodes"]["hosts"]:
        inputs = yaml.safe_load((rendered / "host_vars" / f"{host}.yml").read_text())
        mine = [stage for stage in stages if host in every.get(stage.group, {}).get("hosts", {})]
        hosts[host] = {"stages_wanted": wanted_on(host, mine, inputs, given, bundle)}
    groups: Yaml = {f"due_{stage.name}": {} for stage in read_stages()}
    return {"all": {"hosts": hosts, "children": groups}}
