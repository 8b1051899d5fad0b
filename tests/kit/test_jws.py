import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kit.jws import NotSigned, encode, key_of_jwk, peek_claim, public_jwk, read_jwt, sign_jwt

KEY = Ed25519PrivateKey.generate()
KEYS = {"k1": KEY.public_key()}
TOKEN = sign_jwt(KEY, "k1", {"sub": "olga", "n": 1})


def test_what_was_signed_is_read_back():
    assert read_jwt(TOKEN, KEYS) == {"sub": "olga", "n": 1}
    assert peek_claim(TOKEN, "sub") == "olga"


def test_a_published_key_is_read_back_and_a_private_one_is_refused():
    assert key_of_jwk(public_jwk(KEY.public_key(), "k1")).public_bytes_raw() == KEY.public_key().public_bytes_raw()
    with pytest.raises(NotSigned):
        key_of_jwk({**public_jwk(KEY.public_key(), "k1"), "d": "x"})


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_a_token_with_one_sign_changed_is_no_token(at: int, sign: str):
    changed = TOKEN[:at] + sign + TOKEN[at + 1 :]
    try:
        claims = read_jwt(changed, KEYS)
    except NotSigned:
        return
    assert claims == {"sub": "olga", "n": 1}  # the last sign of base64 has bits that mean nothing


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str):
    for token in (text, f"{encode(text.encode(errors='replace'))}..", "." + text + "."):
        with pytest.raises(NotSigned):
            read_jwt(token, KEYS)


@pytest.mark.parametrize("claims", [b"NaN", b"[]", b"1", b'{"exp": NaN}', b'{"exp": Infinity}', b"[" * 5000])
def test_claims_that_are_no_json_object_are_refused(claims: bytes):
    head = encode(b'{"alg":"EdDSA","kid":"k1"}')
    signed = f"{head}.{encode(claims)}"
    with pytest.raises(NotSigned):
        read_jwt(f"{signed}.{encode(KEY.sign(signed.encode()))}", KEYS)
