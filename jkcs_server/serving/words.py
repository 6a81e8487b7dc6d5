"""The names of the four-letter words, and which are answered unless the configuration says otherwise.

Values only: what each word tells is in `fourletter.py`.
"""

from __future__ import annotations

WORDS = frozenset(
    (
        "conf",
        "cons",
        "crst",
        "dirs",
        "dump",
        "envi",
        "hash",
        "isro",
        "mntr",
        "ruok",
        "srst",
        "srvr",
        "stat",
        "wchc",
        "wchp",
        "wchs",
    )
)
"""Every word that is known."""
EVERY_WORD = "*"
"""In the configuration: all of them."""
DEFAULT_WORDS = ("isro", "ruok", "srvr")
"""ZooKeeper's default, and what tells even less: no client, key, path or host name."""
