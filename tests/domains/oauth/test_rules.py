from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.oauth import rules
from controlplane.domains.oauth.types import AskError, Client, ClientKind, Standing, Step, Wish

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
NATIVE = Client("n", "n", ClientKind.NATIVE, frozenset(), redirect_uris=("http://127.0.0.1/cb", "http://[::1]:7/cb"))
WEB = Client("w", "w", ClientKind.WEB, frozenset({"openid", "profile"}), redirect_uris=("https://app.example/cb",))
HERE = Standing(NOW - timedelta(seconds=10), has_consented=True)


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("http://127.0.0.1/cb", True),
        ("http://127.0.0.1:1/cb", True),
        ("http://127.0.0.1:65535/cb", True),
        ("http://[::1]:51004/cb", True),
        ("http://localhost:51004/cb", False),
        ("http://127.0.0.2/cb", False),
        ("https://127.0.0.1:5/cb", False),
        ("http://127.0.0.1:5/cb/", False),
        ("http://127.0.0.1:5/cb?x=1", False),
        ("http://127.0.0.1:5/cb#x", False),
        ("http://user@127.0.0.1:5/cb", False),
        ("http://127.0.0.1:5@evil.example/cb", False),
        ("http://127.0.0.1:999999/cb", False),
        ("", False),
    ],
)
def test_a_native_clients_address_is_the_registered_one_but_for_the_port_of_loopback(uri: str, allowed: bool):
    assert rules.redirects_to(NATIVE, uri) is allowed


@given(st.text(max_size=60))
def test_no_address_but_the_registered_one_is_a_web_clients(uri: str):
    assert rules.redirects_to(WEB, uri) is (uri in WEB.redirect_uris)


@given(st.text(max_size=140))
def test_no_made_up_verifier_proves_a_challenge(verifier: str):
    assert not rules.proves(verifier, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")


def test_the_verifier_of_the_standards_example_proves_its_challenge():
    """RFC 7636, appendix B."""
    assert rules.proves("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")


@pytest.mark.parametrize(
    ("wish", "standing", "step"),
    [
        (Wish(), Standing(), Step.SIGN_IN),
        (Wish(), HERE, Step.GRANT),
        (Wish(), Standing(NOW), Step.CONSENT),
        (Wish(frozenset({"consent"})), HERE, Step.CONSENT),
        (Wish(frozenset({"login"})), HERE, Step.SIGN_IN),
        (Wish(frozenset({"select_account"})), HERE, Step.SIGN_IN),
        (Wish(max_age_s=10), HERE, Step.GRANT),
        (Wish(max_age_s=9), HERE, Step.SIGN_IN),
        (Wish(max_age_s=0), HERE, Step.SIGN_IN),
        (Wish(signed_in_after=NOW - timedelta(seconds=10)), HERE, Step.GRANT),
        (Wish(signed_in_after=NOW), HERE, Step.SIGN_IN),
        (Wish(), Standing(NOW, is_hinted=False, has_consented=True), Step.SIGN_IN),
        (Wish(signed_in_after=NOW), Standing(NOW, is_hinted=False), AskError.LOGIN),
        (Wish(frozenset({"none"})), Standing(), AskError.LOGIN),
        (Wish(frozenset({"none"})), Standing(NOW), AskError.CONSENT),
        (Wish(frozenset({"none"}), max_age_s=1), HERE, AskError.LOGIN),
        (Wish(frozenset({"none"})), HERE, Step.GRANT),
        (Wish(frozenset({"none", "login"})), HERE, AskError.INVALID),
        (Wish(frozenset({"dance"})), HERE, AskError.INVALID),
    ],
)
def test_what_a_browser_sees_next(wish: Wish, standing: Standing, step: Step | AskError):
    assert rules.next_step(NOW, wish, standing) is step


@pytest.mark.parametrize(("at", "early"), [(None, False), (0, True), (4.9, True), (5, False), (60, False)])
def test_a_poll_is_early_until_the_interval_is_over(at: float | None, early: bool):
    last = None if at is None else NOW - timedelta(seconds=at)
    assert rules.polls_too_fast(NOW, last, 5) is early


def test_a_typed_code_is_read_however_it_was_typed():
    assert rules.normal_user_code(" bcdf ghjk") == rules.normal_user_code("BCDF-GHJK") == "BCDFGHJK"
    assert rules.show_user_code("BCDFGHJK") == "BCDF-GHJK"
