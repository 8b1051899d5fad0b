"""The base of every shape that crosses a process."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown fields are refused and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
