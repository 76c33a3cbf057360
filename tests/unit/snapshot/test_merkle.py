"""The trees of RFC 9162, against its own recursive definition and published vectors."""

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listeners.snapshot.merkle import (
    audit_path,
    join_subtrees,
    leaf_hash,
    root_from_path,
    root_of,
    subtrees_of,
)

# The entries and roots with which Certificate Transparency's implementations test themselves.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

entries = st.lists(st.binary(max_size=3), min_size=1, max_size=70)


def split(leaves):
    """Where section 2.1.1 splits a tree: the largest power of two below its size."""
    return 1 << (len(leaves) - 1).bit_length() - 1


def naive_root(leaves):
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    left, right = leaves[: split(leaves)], leaves[split(leaves) :]
    return sha256(b"\x01" + naive_root(left) + naive_root(right)).digest()


def naive_path(leaves, index):
    if len(leaves) == 1:
        return []
    k = split(leaves)
    if index < k:
        return [*naive_path(leaves[:k], index), naive_root(leaves[k:])]
    return [*naive_path(leaves[k:], index - k), naive_root(leaves[:k])]


@pytest.mark.parametrize("size", range(9))
def test_the_published_trees_have_their_published_roots(size):
    assert root_of([leaf_hash(entry) for entry in ENTRIES[:size]]).hex() == ROOTS[size]


@given(entries)
def test_roots_and_paths_are_those_of_the_recursive_definition(content):
    leaves = [leaf_hash(entry) for entry in content]
    assert root_of(leaves) == naive_root(leaves)
    for index in range(len(leaves)):
        assert audit_path(leaves, index) == naive_path(leaves, index)


@given(entries, st.data())
def test_a_path_leads_from_its_leaf_to_the_root_and_from_no_other_leaf_or_place(content, data):
    leaves = [leaf_hash(entry) for entry in content]
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = audit_path(leaves, index)
    assert root_from_path(leaves[index], index, len(leaves), path) == root_of(leaves)
    other = data.draw(st.integers(-1, len(leaves)).filter(lambda place: place != index))
    found = root_from_path(leaves[index], other, len(leaves), path)
    assert found != root_of(leaves) or naive_path(leaves, other) == path  # equal entries on mirrored places
    assert root_from_path(leaf_hash(b"another"), index, len(leaves), path) != root_of(leaves)


@given(entries, st.data())
def test_a_path_that_is_too_short_too_long_or_changed_leads_nowhere(content, data):
    leaves = [leaf_hash(entry) for entry in content]
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = audit_path(leaves, index)
    assert root_from_path(leaves[index], index, len(leaves), [*path, leaves[0]]) is None
    for place in range(len(path)):
        assert root_from_path(leaves[index], index, len(leaves), path[:place]) is None
        changed = [*path[:place], bytes(32), *path[place + 1 :]]
        assert root_from_path(leaves[index], index, len(leaves), changed) != root_of(leaves)


def test_a_node_is_not_taken_for_a_leaf():
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != root_of([left, right])


@given(entries, st.lists(st.integers(0, 70), max_size=5))
def test_workers_that_hash_runs_of_leaves_get_the_root_of_the_whole_tree(leaves, cuts):
    bounds = [0, *sorted(min(cut, len(leaves)) for cut in cuts), len(leaves)]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    parts = [subtrees_of(hashes[begin:end], begin) for begin, end in pairwise(bounds)]
    subtrees = [subtree for part in parts for subtree in part]
    assert join_subtrees(subtrees, len(leaves)) == root_of(hashes)
    assert max(map(len, parts)) <= 2 * len(leaves).bit_length()
    for wrong in (subtrees[1:], [*subtrees, subtrees[0]], [*subtrees, subtrees[-1]]):
        with pytest.raises(ValueError, match="exactly once"):
            join_subtrees(wrong, len(leaves))
    with pytest.raises(ValueError, match="exactly once"):
        join_subtrees(subtrees, len(leaves) + 1)
