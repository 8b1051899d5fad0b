"""Choose packages that can stand together: the closure of a list of names over a catalogue, decided here alone.

One version a name, the newest of all suites. A dependency is met by what is chosen already, else by its first
alternative that works out, a package of that name before one that provides it. Choices are taken back when they lead
nowhere.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controlplane.bundle.relations import Clause, Package, Relation, clause_text
from controlplane.bundle.versions import version_key
from controlplane.kit.errors import Refused

DEAD_ENDS = 2000  # a catalogue of one distribution needs a handful; beyond this a person must decide
PRIORITIES = ("required", "important", "standard", "optional", "extra")


class Catalogue:
    """Every package that could be chosen, by name and by what it provides."""

    def __init__(self, packages: Iterable[Package]) -> None:
        self._packages: dict[str, Package] = {}
        for package in packages:
            known = self._packages.get(package.name)
            if known is None or version_key(package.version) > version_key(known.version):
                self._packages[package.name] = package
        self._providers: dict[str, list[tuple[Package, Relation]]] = {}
        for package in self._packages.values():
            for provided in package.provides if "Provides" in package.fields else ():
                self._providers.setdefault(provided.name, []).append((package, provided))

    def find(self, name: str) -> Package | None:
        return self._packages.get(name)

    def essential(self) -> list[str]:
        """Return the names that every system has."""
        return sorted(name for name, package in self._packages.items() if package.is_essential)

    def meeting(self, relation: Relation) -> Iterator[Package]:
        """Return the packages that satisfy a relation, best first."""
        real = self._packages.get(relation.name)
        if real is not None and real.is_for(relation.qualifier) and relation.admits(real.version):
            yield real
        found = [package for package, provided in self._providers.get(relation.name, ()) if _is_met(relation, provided)]
        yield from sorted((package for package in found if package.is_for(relation.qualifier)), key=_rank)


def _is_met(relation: Relation, provided: Relation) -> bool:
    return not relation.operator or (bool(provided.version) and relation.admits(provided.version))


def _rank(package: Package) -> tuple[int, str]:
    priority = package.fields.get("Priority", "optional")
    return PRIORITIES.index(priority) if priority in PRIORITIES else len(PRIORITIES), package.name


@dataclass(frozen=True)
class Wish:
    """A clause, and by whom it was asked: the package or the feature."""

    clause: Clause
    owner: str


class _DeadEnd(Exception):
    def __init__(self, wish: Wish, reason: str) -> None:
        super().__init__(reason)
        self.wish, self.reason = wish, reason


class _State:
    """What is chosen so far, why, and what is not met yet."""

    def __init__(self, wishes: list[Wish]) -> None:
        self.chosen: dict[str, Package] = {}
        self.asked_by: dict[str, str] = {}
        self.wishes = wishes

    def copy(self) -> "_State":
        copy = _State([*self.wishes])
        copy.chosen, copy.asked_by = {**self.chosen}, {**self.asked_by}
        return copy

    def choose(self, package: Package, owner: str) -> None:
        self.chosen[package.name] = package
        self.asked_by.setdefault(package.name, owner)
        self.wishes += [Wish(clause, package.name) for clause in package.depends]


class Resolver:
    """Chooses packages of one catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._dead_ends = 0
        self._deepest: tuple[int, tuple[str, ...], str] | None = None

    def resolve(self, roots: dict[str, tuple[str, ...]]) -> dict[str, Package]:
        """Return packages by name that meet every root (feature to names); raises Refused that names the chain."""
        wishes = [Wish((Relation(name),), owner) for owner, names in roots.items() for name in names]
        state = self._search(_State(wishes))
        if state is None:
            raise self._refusal()
        return state.chosen

    def reach(self, names: Iterable[str], chosen: dict[str, Package]) -> set[str]:
        """Return which of the chosen packages these names need."""
        reached: set[str] = set()
        waiting: list[Clause] = [(Relation(name),) for name in names]
        while waiting:
            package = self._meets(waiting.pop(), chosen)
            if package is not None and package.name not in reached:
                reached.add(package.name)
                waiting += package.depends
        return reached

    def _meets(self, clause: Clause, chosen: dict[str, Package]) -> Package | None:
        candidates = (package for relation in clause for package in self._catalogue.meeting(relation))
        return next((package for package in candidates if chosen.get(package.name) is package), None)

    def _search(self, state: _State) -> _State | None:
        try:
            wish, candidates = self._settle(state)
        except _DeadEnd as end:
            self._remember(state, end)
            return None
        if wish is None:
            return state
        for package in candidates:
            trial = state.copy()
            trial.choose(package, wish.owner)
            found = self._search(trial)
            if found is not None or self._dead_ends > DEAD_ENDS:
                return found
        return None

    def _settle(self, state: _State) -> tuple[Wish | None, list[Package]]:
        """Choose all that leaves no choice; return the oldest wish that does, with its candidates."""
        open_wishes: list[Wish] = []
        while state.wishes:
            while state.wishes:
                wish = state.wishes.pop(0)
                if self._meets(wish.clause, state.chosen) is not None:
                    continue
                candidates = self._candidates(wish, state)
                if len(candidates) == 1:
                    state.choose(candidates[0], wish.owner)
                else:
                    open_wishes.append(wish)
            for wish in open_wishes:
                candidates = self._candidates(wish, state)
                met = self._meets(wish.clause, state.chosen) is not None
                if not met and len(candidates) == 1:
                    state.wishes.append(wish)
            open_wishes = [
                wish
                for wish in open_wishes
                if wish not in state.wishes and self._meets(wish.clause, state.chosen) is None
            ]
        if not open_wishes:
            return None, []
        state.wishes = open_wishes[1:]
        return open_wishes[0], self._candidates(open_wishes[0], state)

    def _candidates(self, wish: Wish, state: _State) -> list[Package]:
        found: dict[str, Package] = {}
        faults: list[str] = []
        for relation in wish.clause:
            for package in self._catalogue.meeting(relation):
                fault = self._clash(package, state.chosen)
                if fault:
                    faults.append(fault)
                else:
                    found.setdefault(package.name, package)
        if not found and self._meets(wish.clause, state.chosen) is None:
            raise _DeadEnd(wish, "; ".join(faults) or self._absence(wish.clause))
        return list(found.values())

    def _clash(self, package: Package, chosen: dict[str, Package]) -> str:
        for relation in package.excludes:
            other = next((p for p in self._meant(relation) if chosen.get(p.name) is p and p is not package), None)
            if other is not None:
                return f"{package.name} excludes {relation}, which {other.name} {other.version} is"
        for other in chosen.values():
            for relation in other.excludes:
                if other is not package and any(meant is package for meant in self._meant(relation)):
                    return f"{other.name} excludes {relation}, which {package.name} {package.version} is"
        return ""

    def _meant(self, relation: Relation) -> Iterator[Package]:
        return self._catalogue.meeting(Relation(relation.name, "", relation.operator, relation.version))

    def _absence(self, clause: Clause) -> str:
        known = [package for relation in clause if (package := self._catalogue.find(relation.name))]
        if known:
            return ", ".join(f"{package.name} is at {package.version}" for package in known)
        return "no package has or provides that name"

    def _remember(self, state: _State, end: _DeadEnd) -> None:
        self._dead_ends += 1
        chain = [clause_text(end.wish.clause)]
        owner = end.wish.owner
        while owner in state.asked_by:
            chain.append(owner)
            owner = state.asked_by[owner]
        if self._deepest is None:
            self._deepest = (len(state.chosen), (owner, *reversed(chain)), end.reason)

    def _refusal(self) -> Refused:
        _, chain, reason = self._deepest or (0, (), "no choice works out")
        return Refused(
            f"packages cannot stand together: {' -> '.join(chain)}: {reason}",
            remedy=f"change the packages of the feature {chain[0] if chain else ''} in the recipe, or name a suite or "
            "component that has what is missing; then lock anew",
            code="packages_unsatisfiable",
        )
