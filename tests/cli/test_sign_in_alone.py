"""Signing in without typing a secret: a device that somebody approves, and a service with a key of its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.cli.device_flow import sign_in_by_device
from controlplane.cli.service_profile import make_key, new_profile, public_key_of
from controlplane.cli.session import Profile, ProfileKeeper, load, save, to_link
from controlplane.client.identity import IdentityClient
from controlplane.client.oauth import OauthClient
from controlplane.contracts import oauth
from controlplane.domains.audit.types import Role
from controlplane.kit.errors import Conflict, Denied, Unauthenticated
from tests.support.control_plane import ControlPlane
from tests.support.live_site import LiveSite, live_site
from tests.support.oauth import make_keys


@pytest.fixture
async def live(plane: ControlPlane, database_url: str, tmp_path: Path) -> AsyncIterator[LiveSite]:
    await make_keys(plane)
    async with live_site(plane, database_url, tmp_path) as made:
        yield made


def profile_at(live: LiveSite, token: str = "") -> Profile:
    return Profile(live.url, token, str(live.ca))


class Approver:
    """Stands for the seconds between two polls: somebody reads the code from the screen and decides."""

    def __init__(self, capsys: pytest.CaptureFixture[str], profile: Profile, *, approve: bool = True) -> None:
        self._capsys, self._profile, self._approve = capsys, profile, approve
        self.waited: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)
        shown = self._capsys.readouterr().err
        code = shown.partition("type the code")[2].split()[0] if "type the code" in shown else ""
        if not code:
            return
        with OauthClient(to_link(self._profile)) as client:
            waiting = client.look_at_device(oauth.LookAtDevice(user_code=code))
            assert waiting.client == "the redoubt command"
            client.decide_device(oauth.DecideDevice(user_code=code, approve=self._approve))


async def test_a_device_that_another_command_line_approved_is_signed_in_as_its_owner(
    plane: ControlPlane, live: LiveSite, capsys: pytest.CaptureFixture[str]
) -> None:
    person = await plane.person(Role.OPERATOR, name="olga")
    approver = Approver(capsys, profile_at(live, person))

    made = await asyncio.to_thread(sign_in_by_device, to_link(profile_at(live)), sleep=approver)

    def whoami() -> tuple[str, str]:
        with IdentityClient(to_link(profile_at(live, made.access_token))) as client:
            me = client.whoami()
            return me.name, me.method

    assert approver.waited == [5]
    assert await asyncio.to_thread(whoami) == ("olga", "password+totp+device")


async def test_a_device_that_was_denied_says_so_and_stops(
    plane: ControlPlane, live: LiveSite, capsys: pytest.CaptureFixture[str]
) -> None:
    approver = Approver(capsys, profile_at(live, await plane.person(Role.OPERATOR)), approve=False)

    with pytest.raises(Denied):
        await asyncio.to_thread(sign_in_by_device, to_link(profile_at(live)), sleep=approver)


async def test_a_device_that_nobody_approves_asks_at_the_pace_of_the_site_and_ends(
    plane: ControlPlane, live: LiveSite
) -> None:
    waited: list[float] = []

    def hurry(seconds: float) -> None:
        """Four polls in no time, then ten minutes later."""
        waited.append(seconds)
        if len(waited) == 4:
            plane.clock.move(601)

    with pytest.raises(Unauthenticated) as ended:
        await asyncio.to_thread(sign_in_by_device, to_link(profile_at(live)), sleep=hurry)

    assert ended.value.code == "expired_token"
    assert waited == [5, 5, 10, 15]  # each slow_down makes it wait five seconds more


async def test_a_services_profile_signs_in_by_itself_whenever_its_token_is_over(
    plane: ControlPlane, live: LiveSite, tmp_path: Path
) -> None:
    admin, kept = await plane.administrator(), make_key(tmp_path / "backup.key")
    own = profile_at(live, admin)

    def create() -> oauth.Client:
        with OauthClient(to_link(own)) as client:
            ask = oauth.CreateService(name="backup", roles=("operator",), public_key=kept.public)
            return client.create_service(ask)

    path = tmp_path / "backup.profile.json"
    save(path, new_profile(own, await asyncio.to_thread(create), kept))

    def whoami() -> tuple[str, str]:
        keeper = ProfileKeeper(path)
        with IdentityClient(to_link(profile_at(live, keeper.fresh_token()))) as client:
            me = client.whoami()
            return me.name, me.role

    assert await asyncio.to_thread(whoami) == ("backup", "operator")
    first = load(path)
    assert first is not None
    assert await asyncio.to_thread(ProfileKeeper(path).renewed_token, first.token) != first.token
    assert kept.path.stat().st_mode & 0o077 == 0


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    made = make_key(tmp_path / "a.key")
    with pytest.raises(Conflict):
        make_key(tmp_path / "a.key")
    assert made.public.kid != make_key(tmp_path / "b.key").public.kid
    with pytest.raises(Exception, match="no public Ed25519 key"):
        public_key_of(tmp_path / "a.key")
