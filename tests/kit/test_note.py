"""Notes as others write them, and that nothing else passes for one."""

from base64 import b64decode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.kit.note import (
    WITNESS_KEY,
    BadNote,
    Checkpoint,
    cosign,
    cosigned_at_s,
    is_signed,
    parse_checkpoint,
    parse_key,
    parse_note,
    sign_checkpoint,
    verifier_key,
    write_proof,
)

# the example of golang.org/x/mod/sumdb/note
NEUMANN_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STATE = Checkpoint("redoubt/north", 7, bytes(range(32)))


def test_a_published_note_is_believed_and_printed_alike():
    note, key = parse_note(NEUMANN), parse_key(NEUMANN_KEY)

    assert is_signed(note.body, note.signatures[0], key)
    assert not is_signed(note.body.replace("you", "we"), note.signatures[0], key)
    assert (str(note), str(key)) == (NEUMANN, NEUMANN_KEY)


def test_a_checkpoint_has_three_lines_and_the_signature_of_its_origin():
    note = sign_checkpoint(STATE, KEY)
    lines = str(note).split("\n")

    assert lines[:2] == ["redoubt/north", "7"]
    assert b64decode(lines[2]) == STATE.root
    assert lines[4].startswith("— redoubt/north ")
    assert parse_checkpoint(parse_note(str(note)).body) == STATE
    assert is_signed(note.body, note.signatures[0], verifier_key("redoubt/north", KEY))
    assert not is_signed(note.body, note.signatures[0], verifier_key("redoubt/south", KEY))


def test_a_cosignature_says_when_and_is_no_signature_of_the_log():
    witness = verifier_key("redoubt/north/gpu1", KEY, WITNESS_KEY)
    made = cosign(STATE.body, "redoubt/north/gpu1", KEY, 1679315147)

    assert is_signed(STATE.body, made, witness)
    assert cosigned_at_s(made) == 1679315147
    assert not is_signed(STATE.body, made, verifier_key("redoubt/north/gpu1", KEY))
    assert not is_signed(Checkpoint("redoubt/north", 8, STATE.root).body, made, witness)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n\n",
        "a\n\n— b x",
        "a\n\n- b AAAAAAAA\n",
        "a\n\n— b AAAAAAAA",
        "a\n\n— b c AAAAAAAA\n",
        "a\n\n— b AAAAAA==\n",
        "a\n\n— b AAAAAAAB=\n",
    ],
)
def test_what_is_no_note_is_refused(text: str):
    with pytest.raises(BadNote):
        parse_note(text)


@pytest.mark.parametrize("body", ["a\n01\nAAAA\n", "a\n1\nAAAA\n", "a\n1\n", "\n1\nAAAA\n", STATE.body + "more\n"])
def test_what_is_no_checkpoint_is_refused(body: str):
    with pytest.raises(BadNote):
        parse_checkpoint(body)


def test_a_proof_is_written_as_c2sp_says():
    text = write_proof(3, [bytes(32)], str(sign_checkpoint(STATE, KEY)))

    assert text.split("\n")[:4] == ["c2sp.org/tlog-proof@v1", "index 3", "A" * 43 + "=", ""]
    assert text.endswith(f"\n\n{sign_checkpoint(STATE, KEY)}")
