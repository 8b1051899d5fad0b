"""How answers of the policy are shown to people."""

from controlplane.cli.screen import say, show
from controlplane.contracts import policy as shapes

SET_COLUMNS = [
    ("VERSION", "version"), ("IN FORCE", "in_force"), ("PROPOSED BY", "proposed_by"), ("PROPOSED", "proposed_at"),
    ("WHAT CHANGES", "note"),
]  # fmt: skip
VERB_COLUMNS = [
    ("VERB", "verb"), ("KIND", "kind"), ("ROLES", "roles"), ("SECOND FACTOR", "dangerous"), ("TWO PEOPLE", "four_eyes"),
    ("OWN", "own"), ("SHARED", "shared"), ("MOVES DATA", "moves"),
]  # fmt: skip
HISTORY_COLUMNS = [
    ("NUMBER", "number"), ("VERSION", "version"), ("FROM", "at"), ("PROPOSED BY", "proposed_by"),
    ("APPROVED BY", "approved_by"), ("PUBLISHED BY", "published_by"), ("REPLAYED", "replayed"), ("FLIPPED", "flipped"),
]  # fmt: skip
FLIP_COLUMNS = [
    ("VERB", "verb"), ("ROLES", "roles"), ("WAS", "before"), ("WOULD BE", "after"), ("TIMES", "times"),
    ("NEWEST: WHO", "who"), ("RESOURCE", "resource"), ("WHY", "why"),
]  # fmt: skip
WORDS = {"allow": "may", "deny": "may not", "step_up": "may, after a second factor,"}


def show_replay(replay: shapes.Replay) -> None:
    """Print how many recorded decisions a change would have flipped, and which."""
    since = f"since {replay.since:%Y-%m-%d %H:%M} UTC" if replay.since else "nothing was recorded yet"
    say(
        f"this change would have flipped {replay.flipped:,} of the last {replay.replayed:,} decisions "
        f"({replay.distinct:,} different questions, {since}; set {replay.version} against set {replay.against})"
    )
    if replay.unreadable:
        say(f"{replay.unreadable:,} recorded decisions are of another shape and were not asked again")
    if replay.groups:
        show(replay.groups, FLIP_COLUMNS, as_json=False, empty="")


def show_answer(answer: shapes.AccessAnswer) -> None:
    """Print who may do what, why, and what would change it."""
    held = ", ".join(answer.roles) or "no role"
    project = f", project {answer.project}" if answer.project else ""
    say(f"{answer.who} ({held}{project}) {WORDS[answer.outcome]} {answer.verb} on {answer.resource}")
    for heading, lines in (
        ("policies", answer.policies or ("none allows it",)),
        ("forbidden", tuple(f"{c}: {r}" for c, r in zip(answer.clauses, answer.reasons, strict=True))),
        ("errors", answer.errors),
        ("otherwise", tuple(f"{change.change}: {WORDS[change.outcome].rstrip(',')}" for change in answer.changes)),
    ):
        for number, line in enumerate(lines):
            say(f"  {heading if number == 0 else '':<10} {line}")
    if not answer.changes:
        say(f"  {'otherwise':<10} no single change, nor two, gives another answer")
    say(f"  {'set':<10} {answer.version}, digest {answer.digest}")
