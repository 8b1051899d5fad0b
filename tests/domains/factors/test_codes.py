from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from controlplane.domains.factors.rules.codes import (
    new_recovery_codes,
    new_totp_secret,
    step_of,
    totp_uri,
    typed_recovery_code,
)

NOW = datetime(2026, 11, 27, 12, 0, 10, tzinfo=UTC)
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # of RFC 6238, appendix B


def test_the_codes_are_those_of_rfc_6238():
    assert step_of(SECRET, "287082", datetime.fromtimestamp(59, UTC)) == 1
    assert step_of(SECRET, "081804", datetime.fromtimestamp(1111111109, UTC)) == 37037036


@pytest.mark.parametrize(("off_s", "fits"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)])
def test_a_phone_may_be_half_a_minute_off(off_s: int, fits: bool):
    code = pyotp.TOTP(SECRET).at(NOW + timedelta(seconds=off_s))

    assert (step_of(SECRET, code, NOW) is not None) == fits


@pytest.mark.parametrize(
    "typed", ["", "12345", "1234567", "abcdef", "".join(chr(0xFF11 + n) for n in range(6)), "12 34", "0x1234", "-12345"]
)
def test_what_is_no_code_is_none(typed: str):
    assert step_of(SECRET, typed, NOW) is None


def test_a_code_may_be_typed_in_two_groups():
    code = pyotp.TOTP(SECRET).at(NOW)

    assert step_of(SECRET, f" {code[:3]} {code[3:]} ", NOW) == int(NOW.timestamp()) // 30


def test_the_qr_code_names_site_and_account():
    uri = totp_uri(new_totp_secret(), account="ada", site="north")

    assert uri.startswith("otpauth://totp/Redoubt%20north:ada?secret=")


def test_ten_different_recovery_codes_are_read_back_however_they_are_typed():
    made = new_recovery_codes()

    assert len(set(made)) == 10
    assert all(typed_recovery_code(f" {code.upper().replace('-', ' ')} ") == code for code in made)


@pytest.mark.parametrize("typed", ["", "aaaa", "l" * 16, "a" * 17, "aaaa-aaaa-aaaa-aaa0"])
def test_what_is_no_recovery_code_is_none(typed: str):
    assert typed_recovery_code(typed) is None
