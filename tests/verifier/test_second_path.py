"""T18: two verifiers that share no code agree, and ours needs nothing but Python."""

import os
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from controlplane.verifier import redoubt_verify
from tests.support.audit_export import LOG_KEY, log_key, make_log


def openssl_verifies(folder: Path, body: bytes, signature: bytes) -> bool:
    (folder / "key.pem").write_bytes(LOG_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (folder / "body").write_bytes(body)
    (folder / "signature").write_bytes(signature)
    done = subprocess.run(
        [
            "openssl",
            "pkeyutl",
            "-verify",
            "-rawin",
            "-pubin",
            "-inkey",
            "key.pem",
            "-sigfile",
            "signature",
            "-in",
            "body",
        ],
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=20,
    )
    return done.returncode == 0


def test_openssl_believes_the_same_checkpoints(tmp_path: Path):
    body, _, lines = make_log().note(13).partition("\n\n")
    signature = b64decode(lines.split("\n")[0].split(" ")[2])[4:]
    public = LOG_KEY.public_key().public_bytes_raw()

    for message, value in [
        (f"{body}\n".encode(), signature),
        (f"{body}\n ".encode(), signature),
        (f"{body}\n".encode(), bytes([signature[0] ^ 1]) + signature[1:]),
        (f"{body}\n".encode(), signature[:63] + bytes([signature[63] ^ 16])),
    ]:
        expected = (message, value) == (f"{body}\n".encode(), signature)
        assert openssl_verifies(tmp_path, message, value) == expected
        assert redoubt_verify.is_signed(public, message, value) == expected


def test_a_signature_that_is_larger_than_the_order_is_refused():
    message, public = b"x", LOG_KEY.public_key().public_bytes_raw()
    signature = LOG_KEY.sign(message)
    s = int.from_bytes(signature[32:], "little") + redoubt_verify.ORDER

    assert redoubt_verify.is_signed(public, message, signature)
    assert not redoubt_verify.is_signed(public, message, signature[:32] + s.to_bytes(32, "little"))


@pytest.mark.parametrize(
    ("secret", "public", "message", "signature"),
    [  # RFC 8032, 7.1, tests 1 to 3
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            (
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
                "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
            ),
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            (
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
            ),
        ),
    ],
    ids=["RFC 8032 test 1", "RFC 8032 test 2"],
)
def test_the_vectors_of_the_rfc_hold(secret: str, public: str, message: str, signature: str):
    del secret
    assert redoubt_verify.is_signed(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))
    assert not redoubt_verify.is_signed(bytes.fromhex(public), bytes.fromhex(message) + b"x", bytes.fromhex(signature))


def test_the_verifier_is_one_file_that_runs_without_any_package(tmp_path: Path):
    log = make_log()
    folder = log.export(tmp_path / "x", proofs=[3])
    alone = tmp_path / "carried.py"
    alone.write_bytes(Path(redoubt_verify.__file__).read_bytes())

    done = subprocess.run(
        [sys.executable, "-I", "-S", alone, folder, "--key", log_key(log)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout.split("\n")[0]) == (0, "OK: entries 20, checkpoints 3, purged 0, proofs 1")
