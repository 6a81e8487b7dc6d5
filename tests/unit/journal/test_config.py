"""A journal's configuration: text becomes values, and what cannot work is refused by the name of its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from journal.addresses import ConfigError
from journal.config import JournalConfig
from journal.limits import Limits, Timing


def config(**fields: Any) -> JournalConfig:
    given: dict[str, Any] = {"data_dir": "data", "me": "a", "peers": "a=h:1,b=h:2,c=h:3"}
    return JournalConfig(**(given | fields))


def test_text_becomes_values() -> None:
    made = config(peers="c=[::1]:3,a=h:1", peer_listen="0.0.0.0:5")
    made.check()
    assert made.data_dir == Path("data")
    assert dict(made.peers) == {"a": ("h", 1), "c": ("::1", 3)}
    assert made.peer_bind == ("0.0.0.0", 5)
    assert config(peers={"a": "h:1"}).peer_bind == ("h", 1)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"data_dir": ""}, "data_dir"),
        ({"peers": "nonsense"}, "peers"),
        ({"peers": ""}, "peers"),
        ({"me": "d"}, "me"),
        ({"me": "a b"}, "me"),
        ({"cluster": ""}, "cluster"),
        ({"peers": "a=h:1,b=h:1"}, "peers"),
        ({"peers": "a=h:0,b=h:1"}, "peers"),
        ({"peer_listen": "h"}, "peer_listen"),
        ({"limits": Limits(snapshots_kept=1)}, "limits"),
        ({"timing": Timing(heartbeat_interval=1)}, "timing"),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_of_its_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config(**fields).check()
    assert raised.value.field == named
