"""The key pairs that a process shows, whatever shows them."""

import ssl
from pathlib import Path

from controlplane.kit.errors import BadInput
from controlplane.kit.leaf import Leaf
from controlplane.kit.tls import client_context, server_context
from controlplane.main.settings import Tls


class Leaves:
    """The key pairs of one process: each is watched once, whatever shows it."""

    def __init__(self) -> None:
        self._by_path: dict[Path, Leaf] = {}

    def serving(self, tls: Tls, *, machine: bool) -> ssl.SSLContext:
        """Return a listener's context; that of machines lets lapsed certificates through to their renewal."""
        context = server_context(tls.files, client_certificate=machine, check_time=not machine)
        return self._leaf(tls).follow(context)

    def asking(self, tls: Tls) -> ssl.SSLContext:
        """Return a client's context."""
        return self._leaf(tls).follow(client_context(tls.ca, tls.files))

    async def take_up(self) -> None:
        """Show every pair that was replaced. Raises BadInput for the first that is none, after looking at all."""
        failed: BadInput | None = None
        for leaf in self._by_path.values():
            try:
                await leaf.take_up()
            except BadInput as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _leaf(self, tls: Tls) -> Leaf:
        return self._by_path.setdefault(tls.certificate, Leaf(tls.files))
