"""Build and check Merkle trees as RFC 9162, section 2.1 defines them (Certificate Transparency 2.0; same trees as RFC 6962).

Leaves and nodes are hashed with different prefixes, so that nobody can present a leaf as a node, or a node as a leaf. The RFC
splits a tree of n leaves at the largest power of two below n. This module builds the same tree level by level: it pairs
neighbours, and if a level has an odd number of hashes, its last hash moves up unchanged.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    return sha256(_LEAF + entry).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Compute the root of a Merkle tree from its leaf hashes. The root of an empty tree is the SHA-256 of an empty input."""
    return _levels(leaves)[-1][0] if leaves else sha256().digest()


def audit_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the sibling hashes on the path from the leaf at `index` to the root of the tree (RFC 9162, section 2.1.3.1)."""
    path = []
    for level in _levels(leaves)[:-1]:
        if (sibling := index ^ 1) < len(level):
            path.append(level[sibling])
        index //= 2
    return path


class Subtree(NamedTuple):
    """A complete subtree of a Merkle tree: it holds the leaves place * 2**level to (place + 1) * 2**level - 1."""

    level: int
    place: int
    hash: bytes


def subtrees_of(leaves: Iterable[bytes], first: int) -> list[Subtree]:
    """Return the fewest complete subtrees that hold a run of leaves, of which the first has the index `first` in the tree.

    There are at most 2 * log2(n) subtrees for n leaves. So workers can compute the subtrees of their leaves, and `join_subtrees`
    the root of the tree.
    """
    found: list[Subtree] = []
    for index, leaf in enumerate(leaves, first):
        level, place, node = 0, index, leaf
        while place % 2 and found and found[-1][:2] == (level, place - 1):
            level, place, node = level + 1, place // 2, node_hash(found.pop().hash, node)
        found.append(Subtree(level, place, node))
    return found


def join_subtrees(subtrees: Iterable[Subtree], size: int) -> bytes:
    """Compute the root of a Merkle tree of `size` leaves (at least 1) from complete subtrees that hold each leaf exactly once.

    Raises:
        ValueError: the subtrees lack a leaf, or hold it twice.
    """
    levels: dict[int, list[tuple[int, bytes]]] = {}
    for subtree in subtrees:
        levels.setdefault(subtree.level, []).append((subtree.place, subtree.hash))
    level = 0
    while size > 1:
        below = levels.pop(level, [])
        nodes, above = dict(below), levels.setdefault(level + 1, [])
        for place, node in below:
            if place % 2 == 0 and place + 1 == size:  # the last node of a level without a sibling moves up
                above.append((place // 2, node))
            elif place >= size or place ^ 1 not in nodes or len(nodes) < len(below):
                raise ValueError("the subtrees do not hold each leaf exactly once")
            elif place % 2:
                above.append((place // 2, node_hash(nodes[place - 1], node)))
        level, size = level + 1, (size + 1) // 2
    top = levels.pop(level, [])
    if levels or [place for place, _node in top] != [0]:
        raise ValueError("the subtrees do not hold each leaf exactly once")
    return top[0][1]


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Compute the root of a Merkle tree from one leaf and its audit path (RFC 9162, section 2.1.3.2).

    Return None if the tree has no leaf at `index`, or if the path has the wrong length for this leaf.

    Args:
        leaf: hash of the leaf.
        index: position of the leaf among all leaves, from 0.
        size: number of leaves in the tree.
        path: the sibling hashes on the path from the leaf to the root, as `audit_path` returns them.
    """
    if not 0 <= index < size:
        return None
    siblings, last, node = iter(path), size - 1, leaf
    while last:
        # The last node of a level has no sibling if its index is even. The next level up then holds the same hash.
        if index % 2 or index < last:
            if (sibling := next(siblings, None)) is None:
                return None
            node = node_hash(sibling, node) if index % 2 else node_hash(node, sibling)
        index, last = index // 2, last // 2
    return node if next(siblings, None) is None else None


def _levels(leaves: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Return the hashes of each level of the Merkle tree, from the leaves up to the root."""
    levels = [leaves]
    while len(below := levels[-1]) > 1:
        pairs = zip(below[::2], below[1::2], strict=False)
        levels.append([*(node_hash(left, right) for left, right in pairs), *below[len(below) & ~1 :]])
    return levels


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(_NODE + left + right).digest()
