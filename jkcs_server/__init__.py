"""The JKCS server: the replicated key tree, its front ends, the embeddable node and the command line.

The names below are imported when they are first used, so that a command which only needs a part of this
package does not pay for the whole of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jkcs_server.config import ConfigError, NodeConfig
    from jkcs_server.node import Node, NodeThread

__all__ = ["ConfigError", "Node", "NodeConfig", "NodeThread"]


def __getattr__(name: str) -> Any:
    if name in ("ConfigError", "NodeConfig"):
        from jkcs_server import config

        return getattr(config, name)
    if name in ("Node", "NodeThread"):
        from jkcs_server import node

        return getattr(node, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
