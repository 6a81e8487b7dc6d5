"""The `jkcs` command."""
