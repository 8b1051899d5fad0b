"""How well data must be kept. A room of its own: a gateway needs the words and none of the shapes around them."""

from typing import Literal

Classification = Literal["public", "internal", "confidential", "secret"]
LEVELS: tuple[Classification, ...] = ("public", "internal", "confidential", "secret")  # the place is the level
