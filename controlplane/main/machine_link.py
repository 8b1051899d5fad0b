"""How a machine speaks to the control plane over a certificate that is renewed while it speaks."""

import httpx

from controlplane.kit.leaf import Leaf, LeafTransport
from controlplane.kit.tls import client_context
from controlplane.main.settings import ControlPlaneLink

TAKE_UP_S = 2.0  # between two looks for a pair that was replaced on disk


def connect_machine(link: ControlPlaneLink, leaf: Leaf, *, timeout_s: float) -> httpx.AsyncClient:
    """Return a client that shows the leaf, and its successors over connections of their own."""
    context = leaf.follow(client_context(leaf.files.ca, leaf.files))
    transport = LeafTransport(leaf, lambda: httpx.AsyncHTTPTransport(verify=context, trust_env=False))
    return httpx.AsyncClient(base_url=link.url, transport=transport, timeout=timeout_s, trust_env=False)
