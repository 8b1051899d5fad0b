"""redoubt sign-in, sign-out, step-up, whoami, session and break-glass."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.device_flow import sign_in_by_device
from controlplane.cli.enrolment import PasswordFile, read_password
from controlplane.cli.screen import Json, note, say, show, show_json
from controlplane.cli.session import (
    BREAK_GLASS,
    Profile,
    Session,
    connect_as,
    profile_of,
    save,
    session_of,
    to_link,
    to_step_up,
    with_answer,
    with_tokens,
)
from controlplane.client.identity import IdentityClient
from controlplane.client.oauth import CLI_CLIENT
from controlplane.contracts import identity
from controlplane.kit.errors import BadInput, Unauthenticated

sessions = typer.Typer(no_args_is_help=True, help="Who is signed in, and from where.")
break_glass = typer.Typer(no_args_is_help=True, help="The way in when nobody else can act: two custodians, one hour.")

SESSION_COLUMNS = [
    ("SESSION", "id"), ("WHO", "principal_id"), ("CLIENT", "client"), ("FROM", "source"), ("METHODS", "methods"),
    ("SEEN", "seen_at"), ("ENDS", "ends_at"),
]  # fmt: skip
Code = Annotated[str, typer.Option(help="The code of your authenticator.")]
RecoveryCode = Annotated[str, typer.Option(help="One of your recovery codes instead; it counts once.")]


def sign_in(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="Your name, to sign in with a password here.")] = None,
    otp: Code = "",
    recovery_code: RecoveryCode = "",
    password_file: PasswordFile = None,
    url: Annotated[str | None, typer.Option(help="The admin API; the profile's if not given.")] = None,
    ca: Annotated[Path | None, typer.Option(help="The site CA's certificate.", exists=True, dir_okay=False)] = None,
    gateway_url: Annotated[str | None, typer.Option(help="The gateway, for `redoubt ask`.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Begin a session: with a name by password and second factor, without one by approving a code elsewhere."""
    session = session_of(context)
    if not (name or password_file or otp or recovery_code):
        _sign_in_device(session, _site(session, url, ca, gateway_url), as_json=as_json)
        return
    profile = _profile(session, name, url, ca, gateway_url)
    password = read_password(password_file, new=False)
    with IdentityClient(to_link(profile)) as client:
        made = client.sign_in(_ask(profile.name, password, otp, recovery_code))
    save(session.path, with_tokens(profile, made))
    if as_json:
        show_json({"name": profile.name, "session": made.session_id})
    else:
        say(f"signed in as {profile.name}; the session is kept in {session.path}")


def _sign_in_device(session: Session, site: Profile, *, as_json: bool) -> None:
    signed_in = with_answer(replace(site, client=CLI_CLIENT), sign_in_by_device(to_link(site)))
    with IdentityClient(to_link(signed_in)) as client:
        me = client.whoami()
    save(session.path, replace(signed_in, name=me.name))
    if as_json:
        show_json({"name": me.name, "session": me.session})
    else:
        say(f"signed in as {me.name}; the session is kept in {session.path}")


def sign_out(context: typer.Context, *, as_json: Json = False) -> None:
    """End this session, here and at the site."""
    session, profile = session_of(context), profile_of(context)
    try:
        with connect_as(context, IdentityClient) as client:
            client.sign_out()
    except Unauthenticated:
        note("the session was over already")
    save(session.path, replace(profile, token="", refresh="", expires_at="", client="cli", ends_at=""))
    show_json({"signed_out": True}) if as_json else say("signed out")


def step_up(context: typer.Context, otp: Code = "", recovery_code: RecoveryCode = "", *, as_json: Json = False) -> None:
    """Show your second factor again; dangerous verbs go for five minutes."""
    shown = identity.StepUp(otp=otp, recovery_code=recovery_code)
    if not (otp or recovery_code):
        shown = to_step_up(_asked("Code of your authenticator, or a recovery code"))
    with connect_as(context, IdentityClient) as client:
        done = client.step_up(shown)
    show_json(done.model_dump(mode="json")) if as_json else say("your second factor counts for five minutes")


def whoami(context: typer.Context, *, as_json: Json = False) -> None:
    """Say who the site thinks you are."""
    with connect_as(context, IdentityClient) as client:
        me = client.whoami()
    if as_json:
        show_json(me.model_dump(mode="json"))
        return
    at = f"project {me.project} of site {me.site}" if me.project else f"site {me.site}"
    say(f"{me.name}, {', '.join(me.roles)}, at {at} ({me.id}, by {me.method})")
    if me.break_glass is not None:
        since, until = me.break_glass.opened_at, me.break_glass.ends_at
        say(f"BREAK-GLASS IS OPEN since {since:%H:%M} UTC, until {until:%H:%M}: redoubt audit list")


@sessions.command("list")
def list_sessions(
    context: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", help="Everybody's.")] = False,
    as_json: Json = False,
) -> None:
    """List live sessions, yours or everybody's."""
    with connect_as(context, IdentityClient) as client:
        show(client.list_sessions(every=every), SESSION_COLUMNS, as_json=as_json, empty="nobody is signed in")


@sessions.command("revoke")
def revoke_session(
    context: typer.Context, session_id: Annotated[str, typer.Argument(metavar="SESSION")], *, as_json: Json = False
) -> None:
    """End a session; its tokens are refused from the next request on."""
    with connect_as(context, IdentityClient) as client:
        ended = client.revoke_session(session_id)
    show_json(ended.model_dump(mode="json")) if as_json else say(f"{ended.id} is over")


@break_glass.command("open")
def open_break_glass(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why nobody else can act; it goes on record.")],
    shares_file: Annotated[
        Path | None,
        typer.Option(help="Both shares, a line each, instead of asking.", exists=True, dir_okay=False),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Open a session of one hour with both custodians' shares. Everybody is told, and each share counts once."""
    session, profile = session_of(context), _known(session_of(context))
    shares = _shares(shares_file)
    with IdentityClient(to_link(replace(profile, token=""))) as client:
        made = client.open_break_glass(identity.OpenBreakGlass(shares=shares, reason=reason))
    ends_at = made.session_ends_at.isoformat()
    opened = replace(profile, name=BREAK_GLASS, client=BREAK_GLASS, ends_at=ends_at)
    save(session.path, with_tokens(opened, made))
    if as_json:
        show_json({"session": made.session_id, "ends_at": ends_at})
    else:
        say(f"The glass is broken: until {ends_at[11:16]} UTC you may do everything, and all of it is on record.")
        say("End it with: redoubt sign-out. Then both custodians make new shares: redoubt break-glass share")


@break_glass.command("share")
def make_share(context: typer.Context, *, as_json: Json = False) -> None:
    """Get a new share as a custodian; the one from before ends."""
    with connect_as(context, IdentityClient) as client:
        made = client.make_share()
    if as_json:
        show_json(made.model_dump())
    else:
        say(f"{made.share}\n(shown this once; seal it in an envelope and lock it away)")


@break_glass.command("show")
def show_break_glass(context: typer.Context, *, as_json: Json = False) -> None:
    """Say whether it is open, and whether both custodians hold a share."""
    with connect_as(context, IdentityClient) as client:
        state = client.break_glass()
    if as_json:
        show_json(state.model_dump(mode="json"))
        return
    for opened in state.open:
        say(f"OPEN since {opened.opened_at:%Y-%m-%d %H:%M} UTC, until {opened.ends_at:%H:%M}")
    if not state.open:
        say("closed")
    for office in state.missing:
        say(f"no {office} holds a share: redoubt break-glass share")


def _profile(session: Session, name: str | None, url: str | None, ca: Path | None, gateway_url: str | None) -> Profile:
    """Return the profile to sign in with: what is kept, and what the command line says otherwise."""
    site = _site(session, url, ca, gateway_url)
    kept = session.profile or Profile("", "")
    known_name = "" if kept.client == BREAK_GLASS or kept.key_file else kept.name
    profile = replace(site, name=name or known_name)
    return profile if profile.name else replace(profile, name=_asked("Name"))


def _site(session: Session, url: str | None, ca: Path | None, gateway_url: str | None) -> Profile:
    """Return the site alone, with nobody in it."""
    kept = session.profile or Profile("", "")
    site = Profile(
        url=(url or kept.url).rstrip("/"),
        token="",
        ca=str(ca.resolve()) if ca else kept.ca,
        gateway_url=kept.gateway_url if gateway_url is None else gateway_url,
    )
    if not site.url:
        raise BadInput("which site?", remedy="redoubt sign-in --url https://… --ca ca.crt --name NAME")
    return site


def _known(session: Session) -> Profile:
    if session.profile is None:
        raise BadInput("this machine knows no site", remedy="use the machine of an administrator or auditor")
    return session.profile


def _ask(name: str, password: str, otp: str, recovery_code: str) -> identity.SignIn:
    if otp or recovery_code:
        return identity.SignIn(name=name, password=password, otp=otp, recovery_code=recovery_code)
    shown = to_step_up(_asked("Code of your authenticator, or a recovery code"))
    return identity.SignIn(name=name, password=password, otp=shown.otp, recovery_code=shown.recovery_code)


def _asked(what: str) -> str:
    if not sys.stdin.isatty():
        raise BadInput(f"there is no terminal to ask: {what.lower()}", remedy="give it as an option; see --help")
    return str(typer.prompt(what, err=True))


def _shares(path: Path | None) -> tuple[str, str]:
    if path is None:
        typed = [_asked_secret(f"Share of the {which} custodian") for which in ("first", "second")]
    else:
        typed = path.read_text().split()
    match typed:
        case [first, second]:
            return first.strip(), second.strip()
        case _:
            raise BadInput("two shares are needed", remedy="one line each")


def _asked_secret(what: str) -> str:
    if not sys.stdin.isatty():
        raise BadInput("there is no terminal to ask for the shares", remedy="give them with --shares-file FILE")
    return str(typer.prompt(what, hide_input=True, err=True))
