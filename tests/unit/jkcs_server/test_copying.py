"""What a copy does about each difference, and in which steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jkcs_server.copying import (
    BATCH_BYTES_MAX,
    BATCH_STEPS_MAX,
    CONTAINER,
    OPEN_ACL,
    SEQUENCE_NAME,
    Action,
    Difference,
    Frontier,
    Kind,
    Seen,
    Step,
    Wishes,
    batches,
    changed_meanwhile,
    compare,
    deletions,
    extra_children,
    hides_hash,
    is_system,
    moved,
    raising,
    steps_for,
)

KEY = Seen(b"value", (), OPEN_ACL)
READ_ONLY = ((1, "world", "anyone"),)
EVERYTHING = Wishes(delete=True, sequences=True)


@pytest.mark.parametrize(
    ("wanted", "found", "wishes", "kinds"),
    [
        (KEY, KEY, EVERYTHING, []),
        (KEY, None, EVERYTHING, [Kind.MISSING]),
        (KEY, replace(KEY, data=b"other"), EVERYTHING, [Kind.DATA]),
        (KEY, replace(KEY, acl=READ_ONLY), EVERYTHING, [Kind.ACL]),
        (KEY, replace(KEY, data=b"", acl=READ_ONLY), EVERYTHING, [Kind.DATA, Kind.ACL]),
        (replace(KEY, acl=None), replace(KEY, acl=READ_ONLY), EVERYTHING, []),
        (KEY, replace(KEY, acl=None), EVERYTHING, []),
        (replace(KEY, ttl_ms=CONTAINER), KEY, EVERYTHING, [Kind.LIFETIME]),
        (replace(KEY, ttl_ms=None), replace(KEY, ttl_ms=CONTAINER), EVERYTHING, []),
        (replace(KEY, ttl_ms=CONTAINER), replace(KEY, ttl_ms=None), EVERYTHING, []),
        (replace(KEY, creations=7), replace(KEY, creations=6), EVERYTHING, [Kind.SEQUENCE]),
        (replace(KEY, creations=7), replace(KEY, creations=6), Wishes(), []),
        (replace(KEY, creations=7), replace(KEY, creations=8), EVERYTHING, []),
        (KEY, replace(KEY, data=b"mine", owner=5), EVERYTHING, [Kind.IN_THE_WAY]),
    ],
)
def test_each_way_in_which_a_key_can_differ(
    wanted: Seen, found: Seen | None, wishes: Wishes, kinds: list[Kind]
) -> None:
    """A side that cannot say what its ACLs are has none that differ; a sequence that is ahead is left ahead."""
    assert [difference.kind for difference in compare("/a", wanted, found, wishes)] == kinds


def test_a_copy_may_live_elsewhere() -> None:
    assert [moved(path, "/", "/") for path in ("/", "/a", "/a/b")] == ["/", "/a", "/a/b"]
    assert [moved(path, "/", "/old") for path in ("/", "/a", "/a/b")] == ["/old", "/old/a", "/old/a/b"]
    assert [moved(path, "/app", "/") for path in ("/app", "/app/b")] == ["/", "/b"]
    assert [moved(path, "/app", "/x/y") for path in ("/app", "/app/b")] == ["/x/y", "/x/y/b"]


def test_what_describes_a_cluster_is_never_touched() -> None:
    """/zookeeper of the source must not come, and that of the target must not go."""
    assert is_system("/zookeeper") and is_system("/zookeeper/quota/a") and not is_system("/zookeepers")
    frontier = Frontier("/")
    frontier.take(1)
    frontier.add("/", ["zookeeper", "a"])
    assert frontier.take(10) == ["/a"]
    assert extra_children("/", KEY, replace(KEY, children=("zookeeper", "a"))) == ["/a"]


def test_extra_children_are_those_that_only_the_target_has() -> None:
    """A name that the source has as an ephemeral key is not extra: its owner will come."""
    wanted, found = replace(KEY, children=("a", "b")), replace(KEY, children=("c", "b", "a2"))
    assert extra_children("/x", wanted, found) == ["/x/a2", "/x/c"]
    assert extra_children("/x", wanted, None) == []


def test_a_subtree_goes_from_below_and_leaves_what_somebody_owns() -> None:
    subtree = [("/a", 0), ("/a/b", 0), ("/a/c", 0), ("/a/b/live", 77), ("/a/c/d", 0)]
    assert [(each.kind, each.path) for each in deletions(subtree)] == [
        (Kind.EXTRA, "/a/c/d"),
        (Kind.LIVE, "/a/b/live"),
        (Kind.EXTRA, "/a/c"),
    ]


def test_nothing_is_done_about_what_cannot_be_changed() -> None:
    for kind in (Kind.LIFETIME, Kind.IN_THE_WAY, Kind.SEQUENCE):
        assert list(steps_for(Difference(kind, "/a", KEY, KEY))) == []
    created = replace(KEY, ttl_ms=5000, acl=READ_ONLY)
    assert list(steps_for(Difference(Kind.MISSING, "/a", created))) == [
        Step(Action.CREATE, "/a", b"value", READ_ONLY, 5000)
    ]


def test_batches_fit_into_a_request_and_keep_the_order() -> None:
    """ZooKeeper closes the connection on a request above its limit."""
    many = [Step(Action.CREATE, f"/{number}") for number in range(2 * BATCH_STEPS_MAX + 1)]
    large = [Step(Action.SET, f"/{number}", bytes(BATCH_BYTES_MAX // 3)) for number in range(5)]
    assert [len(batch) for batch in batches(many, mixed=False)] == [BATCH_STEPS_MAX, BATCH_STEPS_MAX, 1]
    assert [len(batch) for batch in batches(large, mixed=True)] == [2, 2, 1]
    assert [step for batch in batches(many + large, mixed=True) for step in batch] == many + large
    assert list(batches([], mixed=False)) == []


def test_what_a_transaction_does_not_take_comes_alone() -> None:
    """Neither ZooKeeper's transactions nor kazoo's know TTLs and changes of ACLs; a cluster's do."""
    plain, lived = Step(Action.CREATE, "/a"), Step(Action.CREATE, "/b", ttl_ms=CONTAINER)
    changed = Step(Action.SET_ACL, "/c", acl=READ_ONLY)
    steps = [plain, lived, changed, plain]
    assert list(batches(steps, mixed=False)) == [[plain], [lived], [changed], [plain]]
    assert list(batches(steps, mixed=True)) == [steps]


def test_a_list_that_hides_a_hash_is_told_from_one_that_does_not() -> None:
    """Copied, it would lock everybody out."""
    assert hides_hash(((1, "world", "anyone"), (31, "digest", "u:x")))
    assert not hides_hash(((31, "digest", "u:aGFzaA=="), (31, "x509", "CN=a:x")))


def test_a_sequence_is_raised_by_as_many_creations_as_it_is_behind() -> None:
    """And every batch leaves no child behind, so an interruption does no harm."""
    made = list(raising("/locks", replace(KEY, creations=1300), replace(KEY, creations=100)))
    steps = [step for batch in made for step in batch]
    assert {step.path for step in steps} == {f"/locks/{SEQUENCE_NAME}"}
    assert [step.action for step in steps] == [Action.CREATE, Action.DELETE] * 1200
    assert all(batch[-1].action is Action.DELETE for batch in made)
    assert all(sum(step.size for step in batch) <= BATCH_BYTES_MAX for batch in made)


def test_no_two_keys_looked_at_together_are_below_each_other() -> None:
    """So what is created in one go needs nothing that is created beside it."""
    frontier = Frontier("/")
    visited: list[str] = []
    while frontier:
        window = frontier.take(3)
        assert not any(one != other and other.startswith(f"{one}/") for one in window for other in window)
        for path in window:
            visited.append(path)
            if path.count("/") < 4 and len(path) < 7:
                frontier.add(path, ["b", "a", "c"])
    assert visited[:4] == ["/", "/a", "/b", "/c"] and len(visited) == frontier.found == 1 + 3 + 9 + 27 + 81


def test_a_difference_that_the_source_made_meanwhile_is_told_apart() -> None:
    difference = Difference(Kind.DATA, "/a", replace(KEY, changed_at=11), KEY)
    assert changed_meanwhile(difference, 10) and not changed_meanwhile(difference, 11)
    assert not changed_meanwhile(Difference(Kind.EXTRA, "/a", None), 0)
