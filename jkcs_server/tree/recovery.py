"""The way of a whole tree back to what it was in a snapshot, by changes that everybody can follow.

Knows nothing of how the snapshot was chosen. Called by `machine`.
"""

from __future__ import annotations

from jkcs_server.tree import paths, quotas
from jkcs_server.tree.keytree import CONFIG, KeyTree
from jkcs_server.tree.node import SEQUENCE, Node


def go_back_to(tree: KeyTree, other: KeyTree, index: int, stamp: int) -> None:
    """Make keys and data those of `other`, by deleting, creating and setting what is different, at `index`.

    So no number goes back: a key that comes back is a new one, with a new token; a key whose data goes back has
    one version more; a sequence goes on. Ephemeral keys of `other` stay away: who owned them gave them up, or
    may have. Those that there are stay, where the keys above them do and nothing else takes their place.
    """
    assert not tree.changes, (index, tree.changes)
    nodes, wanted = tree.nodes, {path: node for path, node in other.nodes.items() if not node.owner}
    unwanted = [
        node
        for path, node in nodes.items()
        if (path in wanted if node.owner else path not in wanted)
        or (node.owner and paths.parent_of(path) not in wanted)
    ]
    # A parent comes before its children in the dictionary: backwards, they go first.
    for node in reversed(unwanted):
        tree.remove(node.path, nodes[node.path], index)
    for path, model in wanted.items():
        if path not in nodes:
            parent_path = paths.parent_of(path)
            node = Node(model.data, index, stamp, 0)
            node.acl = model.acl
            node.ttl = model.ttl
            tree.add(path, node, parent_path, nodes[parent_path], index)
        elif nodes[path].data != model.data and path != CONFIG and not quotas.is_stats(path):
            tree.put(path, nodes[path], model.data, index, stamp)
        _go_back_in_rare(tree, path, nodes[path], model)


def _go_back_in_rare(tree: KeyTree, path: str, node: Node, model: Node) -> None:
    """Make the node's list and lifetime those of the model, and its sequence no less."""
    if node.acl is not model.acl or node.ttl != model.ttl:
        node = tree.keep_unmarked(path, node)
        tree.sum -= node.weight * node.rare()
        if node.acl is not model.acl:
            node.acl = model.acl
            node.aversion += 1
        if node.ttl != model.ttl:
            tree.lifetimes(node.ttl).pop(path, None)
            node.ttl = model.ttl
            if node.ttl:
                tree.lifetimes(node.ttl)[path] = None
        tree.sum += node.weight * node.rare()
    if node.sequence < model.sequence:
        node = tree.keep_unmarked(path, node)
        tree.sum += node.weight * SEQUENCE * (model.sequence - node.sequence)
        node.sequence = model.sequence
