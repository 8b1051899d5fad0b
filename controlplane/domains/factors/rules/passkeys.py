"""WebAuthn ceremonies: what we ask the browser for, and whether its answer is good."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    bytes_to_base64url,
    parse_authentication_credential_json,
    parse_client_data_json,
    parse_registration_credential_json,
)
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from controlplane.kit.errors import BadInput, Refused

LONGEST_ANSWER = 20_000  # bytes of JSON; with no attestation a real one has about 1,500
FQDN = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
ORIGIN_HOST = re.compile(r"^https?://(\[[0-9a-f:]+\]|[^:/]*)(?::[0-9]+)?$")
# what the library and its parsers raise on bytes that are no answer at all
UNREADABLE = (WebAuthnException, ValueError, TypeError, LookupError, AttributeError, OverflowError)


@dataclass(frozen=True)
class RelyingParty:
    id: str
    origin: str


@dataclass(frozen=True)
class NewPasskey:
    credential_id: bytes
    public_key: bytes
    sign_count: int
    aaguid: str
    backed_up: bool


@dataclass(frozen=True)
class Answer:
    """What is needed of an answer before it can be checked."""

    credential_id: bytes
    challenge: bytes
    user_handle: bytes | None


def relying_party(origin: str) -> RelyingParty:
    """Return who we are to a browser; raises Refused where browsers know no passkeys (w3c/webauthn#1358)."""
    host = host_of(origin)
    if _is_address(host) or not (host == "localhost" or FQDN.fullmatch(host)):
        raise Refused(
            f"passkeys need a name of this site such as console.example.internal, and it is reached as {host}",
            remedy="use an authenticator app (TOTP), or declare network.console_name in site.yml and apply",
            code="passkeys_need_a_name",
        )
    return RelyingParty(host, origin)


def host_of(origin: str) -> str:
    """Return the name or address in an origin."""
    return ORIGIN_HOST.sub(r"\1", origin)


def registration_options(party: RelyingParty, site: str, principal_id: str, name: str, known: Iterable[bytes]) -> str:
    """Return the JSON for `navigator.credentials.create`: a key that verifies its user, no attestation."""
    return options_to_json(
        generate_registration_options(
            rp_id=party.id,
            rp_name=f"Redoubt {site}",
            user_id=principal_id.encode(),
            user_name=name,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=_descriptors(known),
        )
    )


def authentication_options(party: RelyingParty, known: Iterable[bytes]) -> str:
    """Return the JSON for `navigator.credentials.get`; without known keys the browser offers its own."""
    return options_to_json(
        generate_authentication_options(
            rp_id=party.id,
            allow_credentials=_descriptors(known),
            user_verification=UserVerificationRequirement.REQUIRED,
        )
    )


def challenge_of(options: str) -> str:
    return str(json.loads(options)["challenge"])


def challenge_text(challenge: bytes) -> str:
    """Return a challenge as the options write it."""
    return bytes_to_base64url(challenge)


def read_registration(answer: str) -> Answer:
    """Raises BadInput for what no browser sends."""
    try:
        _limit(answer)
        credential = parse_registration_credential_json(answer)
        challenge = parse_client_data_json(credential.response.client_data_json).challenge
    except UNREADABLE as error:
        raise _unreadable(error) from None
    return Answer(credential.raw_id, challenge, None)


def read_authentication(answer: str) -> Answer:
    """Raises BadInput for what no browser sends."""
    try:
        _limit(answer)
        credential = parse_authentication_credential_json(answer)
        challenge = parse_client_data_json(credential.response.client_data_json).challenge
    except UNREADABLE as error:
        raise _unreadable(error) from None
    return Answer(credential.raw_id, challenge, credential.response.user_handle)


def verify_new(answer: str, challenge: bytes, party: RelyingParty) -> NewPasskey:
    """Raises BadInput that says why; the person is known, so nothing is given away."""
    try:
        made = verify_registration_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            require_user_verification=True,
        )
    except UNREADABLE as error:
        raise _unreadable(error) from None
    return NewPasskey(
        made.credential_id, made.credential_public_key, made.sign_count, made.aaguid, made.credential_backed_up
    )


def verified_count(answer: str, challenge: bytes, party: RelyingParty, public_key: bytes, count: int) -> int | None:
    """Return the key's new counter, or None when the answer is not good: origin, party, user, counter, signature."""
    try:
        return verify_authentication_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            credential_public_key=public_key,
            credential_current_sign_count=count,
            require_user_verification=True,
        ).new_sign_count
    except UNREADABLE:
        return None


def _descriptors(known: Iterable[bytes]) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=credential_id) for credential_id in known]


def _limit(answer: str) -> None:
    if len(answer) > LONGEST_ANSWER:
        raise ValueError("the answer is too long")


def _unreadable(error: Exception) -> BadInput:
    return BadInput(f"the passkey's answer is not good: {error}", remedy="try again, from this site's own page")


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
