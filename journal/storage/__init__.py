"""The way to disk."""
