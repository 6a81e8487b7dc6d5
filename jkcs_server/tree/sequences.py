"""The numbers of sequential keys, and the names they make.

Knows nothing of permissions and of how a number is kept. Called by `keytree` for each sequential create.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from jkcs_server.tree.paths import SEQUENCE_DIGITS

if TYPE_CHECKING:
    from jkcs_server.tree.node import Node


def next_path(taken: Container[str], prefix: str, parent: Node | None, int32: bool) -> tuple[int, str]:
    """The number of a new sequential key below `parent` (None: there is none yet), and its path.

    `int32`: as ZooKeeper makes them: the number wraps around at 32 bits, and the name may be taken.
    """
    number = 0 if parent is None else parent.sequence
    while True:
        shown = (number + 2**31) % 2**32 - 2**31 if int32 else number
        path = f"{prefix}{shown:0{SEQUENCE_DIGITS}}"
        # Somebody may have taken the name by hand. To fail would be to fail for ever, as ZooKeeper does.
        if int32 or path not in taken:
            return number, path
        number += 1
