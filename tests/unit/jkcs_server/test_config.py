"""The configuration: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from jkcs_server.config import ConfigError, NodeConfig, load, parse_address, parse_peers, show_address
from journal.limits import Limits, Timing

THREE = "n1=10.0.0.1:2182,n2=10.0.0.2:2182,n3=10.0.0.3:2182"
FLAGS = {"data_dir": "/data", "me": "n1", "peers": THREE}


def test_peers_by_name_and_by_url_give_the_same_members() -> None:
    """The same cluster may be written in either way, and as a mapping by code that embeds a node."""
    expected = {"a": ("a", 2182), "b": ("b", 2183)}
    assert parse_peers("b=b:2183,a=a:2182") == expected
    assert parse_peers("jkcs://a:2182,b:2183") == expected
    assert parse_peers("jkcs://a:2182,b:2183/") == expected
    assert parse_peers({"b": "b:2183", "a": ("a", 2182)}) == expected


def test_members_are_in_order_of_their_names() -> None:
    """Every node must see the members in one order, however its own configuration lists them."""
    assert list(parse_peers("n3=h:3,n1=h:1,n2=h:2")) == ["n1", "n2", "n3"]


def test_members_cannot_be_changed_through_the_configuration() -> None:
    """The node reads them for its whole life."""
    config = NodeConfig("d", "n1", THREE)
    with pytest.raises(TypeError):
        config.peers["n4"] = ("h", 1)  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:2181", ("127.0.0.1", 2181)),
        ("db.example:1", ("db.example", 1)),
        ("[::1]:2181", ("::1", 2181)),
        (" host:0 ", ("host", 0)),
    ],
)
def test_address_is_read_and_shown(text: str, address: tuple[str, int]) -> None:
    """What we print, we read again."""
    assert parse_address("listen", text) == address
    assert parse_address("listen", show_address(address)) == address


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("2181", "is no address"),
        ("host", "is no address"),
        ("host:", "is no address"),
        ("host:x", "is no address"),
        ("host:65536", "not between 0 and 65535"),
        (":2181", "no usable host"),
        ("::1:2181", "needs brackets"),
        ("a b:1", "no usable host"),
        (("h", "1"), "not between"),
        (("h", True), "not between"),
        ((1, 2), "no usable host"),
        (7, "is no address"),
    ],
)
def test_bad_address_is_refused_with_its_field(value: object, why: str) -> None:
    """An operator must see which of several addresses is meant, and what is wrong with it."""
    with pytest.raises(ConfigError, match=why) as caught:
        parse_address("listen", value)
    assert str(caught.value).startswith("listen: ")


@pytest.mark.parametrize(
    ("peers", "why"),
    [
        ("", "no members"),
        ({}, "no members"),
        ("jkcs://h:1,h:2", "two members are called 'h'"),
        ("n1=h:1,n1=h:2", "two members are called 'n1'"),
        ("n1=h", "is no address"),
        (5, "neither text nor a table"),
    ],
)
def test_bad_members_are_refused(peers: object, why: str) -> None:
    """Two members under one name would be one node with two votes, or none."""
    with pytest.raises(ConfigError, match=why):
        parse_peers(peers)


def test_config_is_a_value_that_can_be_varied() -> None:
    """Tests and embedders make one configuration from another; text is read there, too."""
    config = NodeConfig("d", "n1", THREE)
    other = dataclasses.replace(config, me="n2", listen="127.0.0.1:0")
    assert (other.me, other.listen, other.peers) == ("n2", ("127.0.0.1", 0), config.peers)
    assert config.data_dir == Path("d")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.me = "n3"  # type: ignore[misc]


def test_node_listens_for_peers_at_its_own_address_unless_told_otherwise() -> None:
    """In a container the address that peers use is often not one that can be bound."""
    config = NodeConfig("d", "n2", THREE)
    assert config.peer_bind == ("10.0.0.2", 2182)
    assert dataclasses.replace(config, peer_listen="0.0.0.0:2182").peer_bind == ("0.0.0.0", 2182)


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"me": "n9"}, "me", "'n9' is not among the members n1, n2, n3"),
        ({"me": ""}, "me", "is no name"),
        ({"cluster": "a b"}, "cluster", "is no name"),
        ({"cluster": "x" * 65}, "cluster", "is no name"),
        ({"peers": "n1=h:1,.=h:2"}, "peers", "is no name"),
        ({"peers": "n1=h:1,n2=h:0"}, "peers", "n2's port is 0"),
        ({"peers": "n1=h:1,n2=h:1"}, "peers", "n1 and n2 share the address h:1"),
        ({"peers": ",".join(f"n{i}=h:{i}" for i in range(1, 11))}, "peers", "10 voters, at most 9"),
        ({"listen": "10.0.0.1:2182"}, "listen", "is where this node listens for its peers"),
        ({"session_timeout_min": 5, "session_timeout_max": 4}, "session_timeout_min", "5 s must be at least"),
        ({"session_timeout_min": 0}, "session_timeout_min", "0 s must be at least 0.1 s"),
        ({"history_events": 0}, "history_events", "0 must be at least 1"),
        ({"connections_max": 0}, "connections_max", "0 must be at least 1"),
        ({"connections_per_address_max": -1}, "connections_per_address_max", "-1 must be at least 0"),
        ({"limits": Limits(segment_bytes=1)}, "limits", "segment_bytes does not hold"),
        ({"timing": Timing(election_timeout=0.1)}, "timing", "three heartbeat intervals"),
    ],
)
def test_check_names_the_field_and_the_reason(changes: dict, field: str, why: str) -> None:
    """Every value that parses but cannot be right is refused before anything is opened."""
    config = NodeConfig(**{"data_dir": "d", "me": "n1", "peers": THREE, **changes})
    with pytest.raises(ValueError, match=why) as caught:
        config.check()
    assert caught.value.field == field


def test_single_node_may_leave_its_peer_port_open() -> None:
    """Nobody needs to find the only member."""
    NodeConfig("d", "n1", "n1=127.0.0.1:0").check()


def test_empty_data_dir_is_refused() -> None:
    """It would be the current directory."""
    with pytest.raises(ConfigError, match="data_dir: must name a directory"):
        NodeConfig("", "n1", THREE)


def test_flags_win_over_environment_and_environment_over_file() -> None:
    """The nearer to the command, the stronger."""
    file = {"me": "n1", "cluster": "from-file", "listen": "h:1", "history_events": 1}
    env = {"JKCS_CLUSTER": "from-env", "JKCS_LISTEN": "h:2", "JKCS_DATA_DIR": "d"}
    config = load(file, env, {"listen": "h:3", "peers": THREE, "me": None})
    assert (config.me, config.cluster, config.listen) == ("n1", "from-env", ("h", 3))
    assert (config.data_dir, config.history_events) == (Path("d"), 1)


def test_tables_of_the_file_and_their_variables_are_read() -> None:
    """Limits and timing are settings like all others; what is not named keeps its default."""
    file = {
        "limits": {"snapshot_entries": 10, "snapshots_kept": 3},
        "timing": {"election_timeout": 2},
        "peers": {"n1": "h:1"},
        "fsync": False,
    }
    env = {"JKCS_LIMITS_SNAPSHOT_ENTRIES": "20", "JKCS_TIMING_HEARTBEAT_INTERVAL": "0.2", "JKCS_FSYNC": "yes"}
    config = load(file, env, {"me": "n1", "data_dir": Path("d")})
    assert config.limits == Limits(snapshot_entries=20, snapshots_kept=3)
    assert config.timing == Timing(election_timeout=2.0, heartbeat_interval=0.2)
    assert config.fsync is True


@pytest.mark.parametrize("missing", ["data_dir", "me", "peers"])
def test_what_is_required_and_missing_is_named_with_all_ways_to_give_it(missing: str) -> None:
    """Nobody should have to look up how."""
    flags = {name: value for name, value in FLAGS.items() if name != missing}
    with pytest.raises(ConfigError) as caught:
        load(None, {}, flags)
    for way in (f"--{missing.replace('_', '-')}", f"JKCS_{missing.upper()}", f"{missing} in"):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    ("file", "env", "flags", "message"),
    [
        ({"data_dirr": "d"}, {}, {}, "data_dirr: is not a setting; did you mean data_dir? (from jkcs.toml)"),
        ({"segment_bytes": 1}, {}, {}, "did you mean limits.segment_bytes?"),
        ({"limits": {"segmentbytes": 1}}, {}, {}, "limits.segmentbytes: is not a setting; did you mean limits.segm"),
        ({"xyzzy": 1}, {}, {}, "xyzzy: is not a setting; known are admin_from, audit, cluster,"),
        ({"limits": 5}, {}, {}, "limits: must be a table [limits] (from jkcs.toml)"),
        ({}, {"JKCS_DATADIR": "d"}, {}, "JKCS_DATADIR: is not a setting; did you mean JKCS_DATA_DIR?"),
        ({}, {}, {"mee": "n1"}, "--mee: is not a setting; did you mean me? (from the flags)"),
        ({"me": 1}, {}, {"me": None}, "me: 1 is not text (from me in jkcs.toml)"),
        ({"fsync": 1}, {}, {}, "fsync: 1 is neither true nor false (from fsync in jkcs.toml)"),
        (
            {},
            {"JKCS_FSYNC": "maybe"},
            {},
            "'maybe' is neither true nor false (from the environment's JKCS_FSYNC)",
        ),
        ({"history_events": True}, {}, {}, "history_events: True is not a whole number"),
        ({}, {"JKCS_HISTORY_EVENTS": "1.5"}, {}, "history_events: '1.5' is not a whole number"),
        (
            {"timing": {"election_timeout": "soon"}},
            {},
            {},
            "timing.election_timeout: 'soon' is not a number",
        ),
        ({"session_timeout_max": float("inf")}, {}, {}, "session_timeout_max: inf is not a number of seconds"),
        ({}, {"JKCS_SESSION_TIMEOUT_MAX": "nan"}, {}, "session_timeout_max: 'nan' is not a number of seconds"),
        (
            {},
            {},
            {"listen": "x"},
            "HOST:PORT is expected, as in 127.0.0.1:2181 (from --listen)",
        ),
        ({}, {"JKCS_ME": "n9"}, {"me": None}, "is not among the members n1, n2, n3 (from the environment's JKCS_ME)"),
        (
            {"timing": {"election_timeout": 0.2}},
            {"JKCS_TIMING_HEARTBEAT_INTERVAL": "0.1"},
            {},
            "(from the environment's JKCS_TIMING_HEARTBEAT_INTERVAL, timing.election_timeout in jkcs.toml)",
        ),
    ],
)
def test_bad_value_is_refused_with_its_source(file: dict, env: dict, flags: dict, message: str) -> None:
    """With three places to set a value in, the message must say which one to mend."""
    with pytest.raises(ConfigError) as caught:
        load(file, env, {**FLAGS, **flags}, file_name="jkcs.toml")
    assert message in str(caught.value)


def test_variables_that_speak_to_others_are_passed_over() -> None:
    """Kubernetes injects variables named after services; a service called jkcs must not stop its own nodes."""
    env = {
        "JKCS_URL": "jkcs://h:1",
        "JKCS_CONFIG": "x",
        "JKCS_LOG_LEVEL": "debug",
        "JKCS_SERVICE_HOST": "10.0.0.1",
        "JKCS_SERVICE_PORT_CLIENTS": "2181",
        "JKCS_PORT": "tcp://10.0.0.1:2181",
        "JKCS_PEERS_PORT_2182_TCP_ADDR": "10.0.0.1",
        "PATH": "/bin",
    }
    assert load(None, env, FLAGS).me == "n1"


PAIR = {"tls_certificate": "/c", "tls_key": "/k"}
PEERS = {"peer_tls_certificate": "/c", "peer_tls_key": "/k", "peer_tls_ca": "/a"}


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"tls_certificate": "/c"}, "tls_key", "is missing: tls_certificate and tls_key belong together"),
        ({"tls_key": "/k"}, "tls_certificate", "is missing"),
        ({**PEERS, "peer_tls_ca": None}, "peer_tls_ca", "is missing"),
        ({"peer_tls_ca": "/a"}, "peer_tls_certificate", "is missing"),
        ({"tls_only": True}, "tls_only", "needs tls_certificate"),
        ({"tls_client_ca": "/a", "tls_client_auth": "need"}, "tls_client_ca", "needs tls_certificate"),
        ({**PAIR, "tls_client_ca": "/a"}, "tls_client_ca", "goes with tls_client_auth"),
        ({**PAIR, "tls_client_auth": "want"}, "tls_client_ca", "goes with tls_client_auth"),
        ({**PAIR, "tls_client_auth": "maybe"}, "tls_client_auth", "'maybe' is none of none, want, need"),
    ],
)
def test_half_of_tls_is_refused(changes: dict, field: str, why: str) -> None:
    """Whoever has set one half of it believes to be safe."""
    with pytest.raises(ConfigError, match=why) as caught:
        NodeConfig("d", "n1", THREE, **changes).check()
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, None),
        ({"listen": "[::1]:1", "peers": "n1=localhost:2"}, None),
        ({"listen": "0.0.0.0:1"}, "listen"),
        ({"listen": "[::]:1"}, "listen"),
        ({"listen": "db.example:1"}, "listen"),
        ({"listen": "10.0.0.1:1", **PAIR}, "listen"),
        ({"listen": "10.0.0.1:1", **PAIR, "tls_only": True}, None),
        ({"listen": "10.0.0.1:1", "insecure": True}, None),
        ({"peers": THREE}, "peers"),
        ({"peer_listen": "0.0.0.0:1"}, "peer_listen"),
        ({"peers": THREE, "peer_listen": "127.0.0.1:1"}, None),
        ({"peers": THREE, **PEERS}, None),
        ({"peers": THREE, "insecure": True}, None),
    ],
)
def test_a_node_is_not_opened_to_other_machines_by_mistake(changes: dict, field: str | None) -> None:
    """Without TLS whoever reaches a port reads and changes everything: that must be somebody's decision."""
    config = NodeConfig(**{"data_dir": "d", "me": "n1", "peers": "n1=127.0.0.1:2", **changes})
    config.check()
    if field is None:
        config.check_exposure()
    else:
        with pytest.raises(ConfigError, match=r"can be reached from other machines.* insecure") as caught:
            config.check_exposure()
        assert caught.value.field == field


def test_tls_settings_are_read_from_everywhere() -> None:
    """Like all others; and the variables of the command line are not taken for settings."""
    config = load(
        {"tls_certificate": "/f", "insecure": False},
        {"JKCS_TLS_KEY": "/e", "JKCS_TLS_ONLY": "yes", "JKCS_CA": "/x", "JKCS_CERTIFICATE": "/x", "JKCS_KEY": "/x"},
        {**FLAGS, "tls_certificate": "/c"},
    )
    assert (config.tls_certificate, config.tls_key, config.tls_only) == (Path("/c"), Path("/e"), True)
