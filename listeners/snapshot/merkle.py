"""Merkle trees as RFC 9162, section 2.1 has them (Certificate Transparency 2.0; the same trees as RFC 6962).

Leaves and nodes are hashed with different prefixes, so that neither can be taken for the other. A tree of n leaves is split at
the largest power of two below n, which is the same as pairing neighbours level by level and passing an odd one on.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    return sha256(_LEAF + entry).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root of a tree, given the hashes of its leaves; of none it is the SHA-256 of nothing."""
    return _levels(leaves)[-1][0] if leaves else sha256().digest()


def audit_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The sibling at each level on the way from a leaf to the root: at most ceil(log2(n)) hashes (section 2.1.3.1)."""
    path = []
    for level in _levels(leaves)[:-1]:
        if (sibling := index ^ 1) < len(level):
            path.append(level[sibling])
        index //= 2
    return path


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that an audit path leads to, or None where it has not the length that the place asks for (section 2.1.3.2).

    Args:
        leaf: the leaf's hash.
        index: its place among the leaves, from 0.
        size: how many leaves the tree has.
        path: as `audit_path` gave it.
    """
    if not 0 <= index < size:
        return None
    siblings, last, found = iter(path), size - 1, leaf
    while last:
        if index % 2 or index < last:  # otherwise an odd one, passed on
            if (sibling := next(siblings, None)) is None:
                return None
            found = _node(sibling, found) if index % 2 else _node(found, sibling)
        index, last = index // 2, last // 2
    return found if next(siblings, None) is None else None


def _levels(leaves: Sequence[bytes]) -> list[Sequence[bytes]]:
    """From the leaves up to the root."""
    levels = [leaves]
    while len(below := levels[-1]) > 1:
        pairs = zip(below[::2], below[1::2], strict=False)
        levels.append([*(_node(left, right) for left, right in pairs), *below[len(below) & ~1 :]])
    return levels


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(_NODE + left + right).digest()
