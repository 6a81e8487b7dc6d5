"""The way to the other nodes."""
