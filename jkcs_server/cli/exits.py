"""The exit codes of the `jkcs` command."""

from __future__ import annotations

FAILED = 1
"""It could not do what was asked."""
USAGE = 2
"""Wrong flags, arguments or settings (click's own code)."""
UNREACHABLE = 3
"""No server answered."""
INTERRUPTED = 130
"""Ended by Ctrl-C."""
