"""Prompts of one tenant never warm another's: what divides the engines' caches, and where nothing is kept at all."""

from controlplane.gateway.directory import Directory, Endpoint
from controlplane.gateway.request import Request
from controlplane.gateway.surface.surface import Orders

_WITHOUT_SALT = frozenset({"llama_cpp", "embed", "rerank"})


def salt_of(directory: Directory, project: str) -> str:
    """Return what divides the cache for a key of this share; never "", so that nobody shares by accident."""
    share = directory.shares.get(project)
    return (share.salt if share is not None else "") or project


def reuses_prompts(endpoint: Endpoint) -> bool:
    """Say whether its engines keep what they read: llama.cpp knows no salt, so only where one project is alone."""
    return endpoint.exclusive or endpoint.adapter not in _WITHOUT_SALT


def orders_of(request: Request, most_tokens: int) -> Orders:
    endpoint = request.endpoint
    salt = salt_of(request.directory, request.grant.project)
    return Orders(most_tokens, salt, endpoint.exclusive, endpoint.adapter)
