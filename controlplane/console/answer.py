"""What the script of the pages sends."""

from typing import Annotated, Any  # the answer's insides are WebAuthn's and are checked by rules.passkeys

from fastapi import Request
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from controlplane.kit.errors import BadInput

Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=60)]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid")

    answer: dict[str, Any]
    name: Name = ""


class PasskeyAnswer(BaseModel):
    """`answer` is the credential as JSON, `name` what its owner calls it."""

    answer: str
    name: str


ANY_OBJECT = TypeAdapter(dict[str, Any])


async def passkey_of(request: Request) -> PasskeyAnswer:
    """Read the body; raises BadInput for what our script does not send."""
    try:
        sent = _Sent.model_validate_json(await request.body())
    except ValidationError:
        raise BadInput("this is no answer of a passkey", remedy="try again, from this site's own page") from None
    return PasskeyAnswer(answer=ANY_OBJECT.dump_json(sent.answer).decode(), name=sent.name)
