from enum import StrEnum


class KeyKind(StrEnum):
    """`admin` keys open the admin API, `inference` keys the gateway; neither opens the other."""

    ADMIN = "admin"
    INFERENCE = "inference"


PREFIX = {KeyKind.ADMIN: "rda", KeyKind.INFERENCE: "rdk"}
