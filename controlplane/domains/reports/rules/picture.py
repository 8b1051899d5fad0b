"""Pictures of a report as drawings of rectangles, marks and words, which SVG and PDF both draw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.contracts.reports import AccessReport, PrincipalReport
from controlplane.domains.policy.types import PEOPLE

WIDTH = 720
LEFT = 130  # where lanes begin: their names stand before
LANE = 18
TICKS = 5
INK, FAINT, PAPER = "#1c2733", "#c9d2da", "#eef2f5"
COLOURS = {
    "role": "#2f6f9f",
    "session": "#7fa8c9",
    "privileged": "#1c2733",
    "denial": "#c2410c",
    "break-glass": "#b91c1c",
    "conflict": "#b91c1c",
}


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    colour: str
    title: str = ""


@dataclass(frozen=True)
class Words:
    x: float
    y: float
    text: str
    colour: str = INK
    anchor: str = "start"


@dataclass(frozen=True)
class Drawing:
    """What to draw, from the top left; `title` is read out to who does not see it."""

    width: float
    height: float
    title: str
    boxes: tuple[Box, ...]
    words: tuple[Words, ...]


@dataclass(frozen=True)
class _Scale:
    began_at: datetime
    ended_at: datetime

    def x(self, at: datetime) -> float:
        """Return where a moment lies; what is outside the period lies on its edge."""
        inside = min(max(at, self.began_at), self.ended_at)
        share = (inside - self.began_at) / max(self.ended_at - self.began_at, timedelta(microseconds=1))
        return round(LEFT + share * (WIDTH - LEFT - 10), 1)


def draw_timeline(person: PrincipalReport, report: AccessReport) -> Drawing:
    """Draw one principal's period: a lane for each role, then sessions, acts, denials, conflicts."""
    scale = _Scale(report.began_at, report.ended_at)
    lanes = list(_lanes(person, scale))
    height = LANE * (len(lanes) + 1) + 8
    boxes, words = list(_grid(scale, height)), list(_dates(scale, height))
    for number, (name, colour, spans) in enumerate(lanes):
        top = LANE * number + 4
        words.append(Words(LEFT - 8, top + 11, name, INK, "end"))
        boxes += [Box(x, top, max(width, 2), LANE - 5, colour, title) for x, width, title in spans]
    return Drawing(WIDTH, height, f"What {person.name} held and did", tuple(boxes), tuple(words))


Span = tuple[float, float, str]


def _lanes(person: PrincipalReport, scale: _Scale) -> Iterator[tuple[str, str, list[Span]]]:
    for role in dict.fromkeys(span.role for span in person.roles):
        held = [s for s in person.roles if s.role == role]
        colour = COLOURS["break-glass" if role == "break-glass" else "role"]
        yield role, colour, [_span(scale, s.granted_at, s.revoked_at, f"granted by {s.granted_by}") for s in held]
    sessions = [_span(scale, s.began_at, s.ended_at or s.seen_at, ", ".join(s.methods)) for s in person.sessions]
    yield "sessions", COLOURS["session"], sessions
    yield "privileged", COLOURS["privileged"], [(scale.x(e.at), 2, e.event) for e in person.privileged]
    yield "denials", COLOURS["denial"], [(scale.x(e.at), 2, e.resource) for e in person.denials]
    if person.break_glass:
        yield "break-glass", COLOURS["break-glass"], [(scale.x(e.at), 3, e.event) for e in person.break_glass]
    if person.conflicts:
        yield "conflicts", COLOURS["conflict"], [_span(scale, c.since, c.until, c.why) for c in person.conflicts]


def _span(scale: _Scale, start: datetime, end: datetime | None, title: str) -> Span:
    left = scale.x(start)
    return left, scale.x(end or scale.ended_at) - left, title


def _grid(scale: _Scale, height: float) -> Iterator[Box]:
    for at in _ticks(scale):
        yield Box(scale.x(at), 0, 0.6, height - LANE, FAINT)


def _dates(scale: _Scale, height: float) -> Iterator[Words]:
    whole_days = scale.ended_at - scale.began_at > timedelta(days=2)
    for number, at in enumerate(_ticks(scale)):
        anchor = "start" if number == 0 else "end" if number == TICKS - 1 else "middle"
        text = at.strftime("%Y-%m-%d" if whole_days else "%m-%d %H:%M")
        yield Words(scale.x(at), height - 4, text, "#55636f", anchor)


def _ticks(scale: _Scale) -> list[datetime]:
    step = (scale.ended_at - scale.began_at) / (TICKS - 1)
    return [scale.began_at + step * number for number in range(TICKS)]


def draw_matrix(principals: Sequence[PrincipalReport], report: AccessReport) -> Drawing:
    """Draw who held which role: full when held at the period's end, pale when only before, red in a conflict."""
    roles = sorted(role.value for role in PEOPLE)
    cell = (WIDTH - LEFT - 10) / len(roles)
    top, height = 28, 28 + LANE * len(principals) + 4
    words = [
        Words(LEFT + cell * (i + 0.5), 11 * (line + 1), part, INK, "middle")
        for i, role in enumerate(roles)
        for line, part in enumerate(role.split("-", 1))
    ]
    boxes = []
    for number, person in enumerate(principals):
        y = top + LANE * number
        words.append(Words(LEFT - 8, y + 12, person.name[:20], INK, "end"))
        boxes += [
            Box(LEFT + cell * i + 1, y + 1, cell - 2, LANE - 3, colour, f"{person.name}: {role}{word}")
            for i, role in enumerate(roles)
            for colour, word in [_cell(person, role, report.ended_at)]
        ]
    return Drawing(WIDTH, height, "Who holds which role", tuple(boxes), tuple(words))


def _cell(person: PrincipalReport, role: str, at: datetime) -> tuple[str, str]:
    held = [span for span in person.roles if span.role == role]
    if any(role in conflict.duties for conflict in person.conflicts):
        return COLOURS["conflict"], ", in conflict"
    if any(span.revoked_at is None or span.revoked_at >= at for span in held):
        return COLOURS["role"], ", held"
    return (FAINT, ", held before") if held else (PAPER, ", not held")
