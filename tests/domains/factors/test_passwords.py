import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.factors.rules.passwords import MOST, faults, prepared
from controlplane.main.wiring import common_passwords

COMMON = common_passwords()
CONTEXT = frozenset({"northsite", "ada"})


@pytest.mark.parametrize(
    "password",
    [
        "passwordpassword",
        "Password12345678",
        "P@ssw0rdP@ssw0rd1",
        "Summer2026Summer2026",
        "administrator2026!",
        "iloveyouforever1",
        "qwertyuiopasdfgh",
        "aaaaaaaaaaaaaaaaaaaa",
        "northsite-redoubt",
        "Ada.Ada.Ada.Ada.1",
        "1234567890123456",
    ],
)
def test_what_a_guesser_tries_first_is_refused(password: str):
    assert faults(password, staff=True, common=COMMON, context=CONTEXT)


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "ein igel frisst nebel",
        "xkqpwzmvbnrtlhg",
        "снег под чайником тихий",
        "   leading blanks count too",
    ],
)
def test_nobody_is_told_what_a_password_is_made_of(password: str):
    assert faults(password, staff=True, common=COMMON, context=CONTEXT) == ()


@pytest.mark.parametrize(
    ("staff", "length", "is_good"), [(True, 14, False), (True, 15, True), (False, 11, False), (False, 12, True)]
)
def test_staff_need_fifteen_characters_and_tenants_twelve(staff: bool, length: int, is_good: bool):
    password = "kvtqzmxwplrnbhg"[:length]

    assert (faults(password, staff=staff, common=COMMON, context=CONTEXT) == ()) == is_good


def test_a_hundred_and_twenty_eight_characters_are_allowed_and_one_more_is_not():
    password = "kvtqzmxwplrnbhgd" * 7 + "xnwvkqzmtrplbhgc"

    assert faults(password, staff=True, common=COMMON, context=CONTEXT) == ()
    assert faults(password + "q", staff=True, common=COMMON, context=CONTEXT)


@given(st.text(max_size=MOST + 5))
def test_any_text_is_judged_and_its_form_is_stable(password: str):
    faults(password, staff=False, common=COMMON, context=CONTEXT)

    assert prepared(prepared(password)) == prepared(password)
