"""redoubt enrol: how a person becomes somebody at a site, with a password and a second factor."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.qr import to_qr
from controlplane.cli.screen import Json, note, say, show_json
from controlplane.cli.session import Profile, save, session_of, to_link, with_tokens
from controlplane.client.identity import IdentityClient
from controlplane.contracts import identity
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput
from controlplane.kit.totp import totp_at

TRIES = 3

PasswordFile = Annotated[
    Path | None,
    typer.Option(help="Read the password from this file instead of asking.", exists=True, dir_okay=False),
]


def enrol(
    context: typer.Context,
    url: Annotated[str, typer.Option(help="The admin API, e.g. https://ctl1:8443.")],
    code: Annotated[str, typer.Option(help="The single-use code that you were given.", envvar="REDOUBT_CODE")],
    name: Annotated[str | None, typer.Option(help="Your name; a code that was made for a user knows it.")] = None,
    ca: Annotated[Path | None, typer.Option(help="The site CA's certificate.", exists=True, dir_okay=False)] = None,
    gateway_url: Annotated[str, typer.Option(help="The gateway, for `redoubt ask`.")] = "",
    password_file: PasswordFile = None,
    *,
    as_json: Json = False,
) -> None:
    """Set your password and your second factor, and be signed in.

    With --password-file nobody is asked: the authenticator's secret is printed with the rest, for a machine to keep.
    """
    password = read_password(password_file, new=True)
    fresh = Profile(url=url.rstrip("/"), token="", ca=str(ca.resolve()) if ca else "", gateway_url=gateway_url)
    with IdentityClient(to_link(fresh)) as client:
        begun = client.begin_enrolment(identity.BeginEnrolment(code=code, name=name, password=password))
        done = _confirm_alone(client, begun) if password_file else _confirm(client, begun)
    session = session_of(context)
    save(session.path, with_tokens(replace(fresh, name=done.name), done.tokens))
    if as_json:
        show_json(_summary(begun, done))
    else:
        _tell(done, str(session.path), begun.totp_secret if password_file else "")


def read_password(path: Path | None, *, new: bool) -> str:
    """Read a password from a file's first line, or from a terminal without showing it."""
    if path is not None:
        return path.read_text().partition("\n")[0]
    if not sys.stdin.isatty():
        raise BadInput("there is no terminal to ask for the password", remedy="give it with --password-file FILE")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=new, err=True))


def _confirm(client: IdentityClient, begun: identity.EnrolmentBegun) -> identity.EnrolmentFinished:
    """Show the QR code, and ask for a first code of the authenticator."""
    note(f"Scan this with an authenticator app, {begun.name}:\n{to_qr(begun.totp_uri)}")
    note(f"or type its secret: {begun.totp_secret}")
    for left in reversed(range(TRIES)):
        code = str(typer.prompt("Code that the app shows", err=True)).replace(" ", "")
        try:
            return client.finish_enrolment(identity.FinishEnrolment(ticket=begun.ticket, otp=code))
        except BadInput as error:
            if not left:
                raise
            note(error.detail)
    raise AssertionError("unreachable")


def _confirm_alone(client: IdentityClient, begun: identity.EnrolmentBegun) -> identity.EnrolmentFinished:
    code = totp_at(begun.totp_secret, SystemClock().now())
    return client.finish_enrolment(identity.FinishEnrolment(ticket=begun.ticket, otp=code))


def _summary(begun: identity.EnrolmentBegun, done: identity.EnrolmentFinished) -> dict[str, object]:
    """All that is shown once, but for the tokens, which the profile keeps."""
    return {
        "name": done.name,
        "roles": list(done.roles),
        "otp_secret": begun.totp_secret,
        "recovery_codes": list(done.recovery_codes),
        "share": done.share,
        "next_code": done.next_code.model_dump(mode="json") if done.next_code else None,
    }


def _tell(done: identity.EnrolmentFinished, kept_in: str, secret: str) -> None:
    say(f"You are {done.name}, {' and '.join(done.roles)}. Your session is kept in {kept_in}.")
    if secret:
        say(f"\nThe authenticator's secret: {secret}")
    say("\nRecovery codes, each for one sign-in without the authenticator. They are shown this once; print them:")
    for code in done.recovery_codes:
        say(f"  {code}")
    if done.share:
        say("\nYour share of the break-glass. It is shown this once; seal it in an envelope and lock it away:")
        say(f"  {done.share}")
    if done.next_code:
        say(f"\nNobody works here before there is a second administrator ({', '.join(done.next_code.roles)}).")
        say("Give this code to that person, who enrols with it within the hour; it is shown this once:")
        say(f"  {done.next_code.code}")
