"""The way of one request: its plan is made once, and each time that it is sent there is a visit at one replica."""

from collections.abc import Collection, Sequence
from typing import Protocol

from controlplane.gateway.directory import Endpoint
from controlplane.gateway.errors import RevisionGone
from controlplane.gateway.meter.usage import Usage
from controlplane.gateway.replica import Replica
from controlplane.gateway.request import Request, Work
from controlplane.gateway.routing.choose import Wish, choose_replica
from controlplane.gateway.routing.isolation import reuses_prompts, salt_of
from controlplane.gateway.routing.neighbours import Neighbours
from controlplane.gateway.routing.prefix import MARKED_BYTES, Prefix, marks_in, read_prefix
from controlplane.gateway.routing.runs import Runs, run_key

_US = 1_000_000
_NEARLY_BYTES = 512  # engines count in tokens, and a template of theirs comes before the prompt


class Around(Protocol):
    """What a plan needs of its process. `time` is the loop's, `tick` the same a moment ago."""

    tick: float
    runs: Runs
    neighbours: Neighbours

    def time(self) -> float: ...


class Plan:
    """Where one request may go, whatever happens to it there."""

    __slots__ = ("_around", "_request", "_revision", "_run", "_wish", "now_s")

    def __init__(self, around: Around, request: Request) -> None:
        self._around = around
        self._request = request
        self._wish: Wish | None = None
        self._run, self._revision = run_of(around, request) if request.work.run else (0, None)

    def choose(self, endpoint: Endpoint, avoid: Collection[Replica]) -> "Visit | None":
        """Return a visit at the best replica, None when there is none. Raises RevisionGone."""
        replicas: Sequence[Replica] = endpoint.replicas
        if self._revision is not None:
            replicas = self._of_the_run(endpoint)
        if avoid:
            replicas = [replica for replica in replicas if replica not in avoid]
        chosen = self._only(replicas) if len(replicas) < 2 else self._best(replicas)
        if chosen is None:
            return None
        replica, held = chosen
        if self._run and self._revision is None:
            return self._begin_run(endpoint, avoid, replica, held)
        return Visit(replica, self._wish, held, self._around)

    def stay_on(self, revision: int) -> None:
        """An answer of this revision has begun: no other may go on with it."""
        self._revision = revision

    @property
    def wish(self) -> Wish:
        if self._wish is None:
            self._wish = make_wish(self._request)
        return self._wish

    def _only(self, replicas: Sequence[Replica]) -> tuple[Replica, int] | None:
        return (replicas[0], 0) if replicas else None

    def _best(self, replicas: Sequence[Replica]) -> tuple[Replica, int] | None:
        around = self._around
        around.neighbours.look(replicas, around.time())
        return choose_replica(replicas, self.wish, around.tick)

    def _of_the_run(self, endpoint: Endpoint) -> list[Replica]:
        replicas = [replica for replica in endpoint.replicas if replica.revision == self._revision]
        if self._run and endpoint.replicas and not replicas:
            raise RevisionGone(
                f"the revision of {endpoint.name} that the run {self._request.work.run} began on is no longer served",
                remedy="begin a new run: send another X-Redoubt-Run",
            )
        return replicas

    def _begin_run(self, endpoint: Endpoint, avoid: Collection[Replica], replica: Replica, held: int) -> "Visit | None":
        """Take what was chosen, unless another request of the run was first and began on another revision."""
        self._revision = self._around.runs.begin(self._run, replica.revision, self._request.at_us / _US)
        if self._revision != replica.revision:
            return self.choose(endpoint, avoid)
        return Visit(replica, self._wish, held, self._around)


class Visit:
    """One request at one replica: what it weighs there, and what its answer teaches."""

    __slots__ = ("_age", "_held", "_left", "_new_bytes", "_reading", "_wish", "replica")

    def __init__(self, replica: Replica, wish: Wish | None, held: int, around: Around) -> None:
        standing = replica.standing
        standing.running += 1
        self.replica = replica
        self._wish = wish
        self._held = held
        self._left = False
        self._new_bytes = 0
        self._age = -1
        self._reading = wish is not None
        if wish is not None:
            self._read(wish, around)
        standing.tell()

    def heard(self) -> None:
        """The first byte of an answer: the prompt is read."""
        self.replica.standing.succeeded()
        self._end_reading()

    def leave(self) -> None:
        """The replica has nothing more to do with it; the second time nothing happens."""
        if not self._left:
            self._left = True
            self._end_reading()
            self.replica.standing.running -= 1
            self.replica.standing.tell()

    def _end_reading(self) -> None:
        if self._reading:
            self._reading = False
            self.replica.standing.prefilling -= self._new_bytes
            self.replica.standing.tell()

    def learn(self, usage: Usage) -> None:
        """Compare what the engine says it had cached with what we believed."""
        wish, told, cached = self._wish, usage.tokens_in, usage.tokens_cached
        if wish is None or cached is None or not told or not wish.prefix.marks:
            return
        found = marks_in(cached / told * wish.prefix.size + _NEARLY_BYTES)
        self.replica.standing.mirror.learn(believed=self._held, age=self._age, found=found)

    def _read(self, wish: Wish, around: Around) -> None:
        standing, prefix, held = self.replica.standing, wish.prefix, self._held
        mirror = standing.mirror
        self._new_bytes = new_bytes = prefix.size - MARKED_BYTES[held]
        self._age = mirror.age(prefix.marks, held or 1)
        standing.prefilling += new_bytes
        standing.work(new_bytes, around.tick)
        marks = (*prefix.marks, wish.session) if wish.session else prefix.marks
        mirror.read(marks, new_bytes)
        if marks:
            around.neighbours.tell(standing, marks, new_bytes)


def run_of(around: Around, request: Request) -> tuple[int, int | None]:
    """Return the key of the request's run, 0 for none, and the revision that it began on."""
    run = request.work.run
    if not run:
        return 0, None
    key = run_key(request.grant.project, run, request.endpoint.endpoint_id)
    return key, around.runs.find(key, request.at_us / _US)


def make_wish(request: Request) -> Wish:
    endpoint, project = request.endpoint, request.grant.project
    return Wish(_prefix(request), _session(project, request.work), endpoint.parallel)


def _prefix(request: Request) -> Prefix:
    endpoint = request.endpoint
    if not reuses_prompts(endpoint):
        return Prefix((), len(request.body), int(request.request_id[-8:], 16))  # they count up: equals take turns
    salt = salt_of(request.directory, request.grant.project)
    seed = f"{salt}\0{endpoint.model}\0{endpoint.adapter}"
    return read_prefix(request.ask.prompt, seed.encode())


def _session(project: str, work: Work) -> int:
    """Return a mark of the run, or of the workflow, that the request is a part of; 0 for none."""
    word = work.run or work.workflow
    return hash((project, work.workflow, word)) if word else 0
