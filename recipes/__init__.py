"""Coordination recipes: each stands on the client's public API only."""
