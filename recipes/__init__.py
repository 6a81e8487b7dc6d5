"""Coordination recipes: each stands on the client's public API only. Users import them from `jkcs_client.recipes`."""

from recipes.lock import Held, Lock

__all__ = ["Held", "Lock"]
