"""The bases of every shape that crosses a process."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown fields are refused and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """Base of what a server sends: a client ignores fields that it does not know, so that versions may differ."""

    model_config = ConfigDict(extra="ignore", frozen=True)
