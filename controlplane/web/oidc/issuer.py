"""Who this server says it is, and with what it signs."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class Issuer:
    """Who this server is. `url` has no slash at its end; `machine_url` is the listener that asks for certificates."""

    url: str
    keys: Ed25519PrivateKey
    machine_url: str = ""

    def at(self, path: str) -> str:
        return f"{self.url}{path}"

    @property
    def audiences(self) -> list[str]:
        """What a client assertion may be addressed to (RFC 7523, 3): this server, or its token endpoint."""
        machine = [f"{self.machine_url}/oauth/token"] if self.machine_url else []
        return [self.url, self.at("/oauth/token"), *machine]
