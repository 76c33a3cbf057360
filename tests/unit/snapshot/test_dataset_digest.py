"""A dataset's digest changes with its content and with nothing else; a proof proves one row and no other."""

import json
import struct
from collections import Counter
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from listeners.snapshot.dataset_digest import ProductRow, Proof, identity_of, prove
from listeners.snapshot.parquet import SCHEMA, write_balanced
from shared.errors import BadInputError

on_files = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)

# Short, so that neighbours are often equal; of more than one byte; beginning with what a length looks like.
texts = st.none() | st.text(alphabet="aé€😀\x00\n", max_size=3)
bigints = st.integers(-(2**63), 2**63 - 1)
contents = st.fixed_dictionaries(
    {
        "designation": texts,
        "description": texts,
        "imageid": st.none() | bigints,
        "image_path": texts,
        "prdtypecode": st.sampled_from([10, 40, 2583]),
    }
)
products = st.dictionaries(
    bigints | st.integers(0, 9), st.tuples(contents, st.integers(1, 3)), min_size=1, max_size=12
)


def rows_of(drawn):
    return [{"productid": key, **content} for key, (content, copies) in drawn.items() for _ in range(copies)]


@pytest.fixture
def dataset(tmp_path):
    """Writes rows as a parquet file, in row groups of a given size."""

    def write(rows, row_group_size=5):
        path = tmp_path / "train_week_7.parquet"
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, row_group_size=row_group_size)
        return path

    return write


@pytest.fixture
def digest(dataset):
    return lambda rows, **options: identity_of(dataset(rows, **options)).digest


def naive_digest(rows):
    """The definition in the module's docstring, said another way."""

    def field(value):
        if value is None:
            return bytes.fromhex("ffffffff")
        content = value.encode() if isinstance(value, str) else value.to_bytes(8, "big", signed=True)
        return len(content).to_bytes(4, "big") + content

    def root(leaves):
        if len(leaves) == 1:
            return leaves[0]
        k = 1
        while 2 * k < len(leaves):
            k *= 2
        return sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()

    copies = Counter(tuple(row[name] for name in SCHEMA.names) for row in rows)
    listed = b""
    for code in sorted({row["prdtypecode"] for row in rows}):
        entries = sorted(
            (row[0], sha256(b"\x02" + b"".join(map(field, row))).digest(), count)
            for row, count in copies.items()
            if row[-1] == code
        )
        leaves = [
            sha256(b"\x00" + row_hash + struct.pack(">q", count)).digest() for _, row_hash, count in entries
        ]
        listed += struct.pack(">qqq", code, len(entries), sum(count for *_, count in entries)) + root(leaves)
    return sha256(b"\x03" + listed).hexdigest()


@on_files
@given(products)
def test_the_digest_is_what_its_definition_says(digest, drawn):
    assert digest(rows_of(drawn)) == naive_digest(rows_of(drawn))


def test_the_digest_never_changes(digest):
    row = {
        "productid": 1,
        "designation": "é",
        "description": None,
        "imageid": 2,
        "image_path": "",
        "prdtypecode": 10,
    }
    rows = [row, row, row | {"productid": 2, "prdtypecode": 40}]
    assert digest(rows) == "c68364e0c679e5351acde015557c740dbe3dbafd1a28a512a9de1de5e97c93b2"
    assert digest([]) == sha256(b"\x03").hexdigest()


@on_files
@given(products, st.randoms(use_true_random=False), st.integers(1, 9))
def test_neither_the_order_of_rows_nor_the_row_groups_change_the_digest(
    digest, drawn, random, row_group_size
):
    rows = rows_of(drawn)
    expected = digest(rows)
    random.shuffle(rows)
    assert digest(rows, row_group_size=row_group_size) == expected


@on_files
@given(products, st.data())
def test_any_changed_field_of_any_copy_changes_the_digest(digest, drawn, data):
    rows = rows_of(drawn)
    expected = digest(rows)
    place = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(SCHEMA.names))
    of = {
        "productid": bigints,
        "prdtypecode": st.integers(-(2**31), 2**31 - 1),
        "imageid": st.none() | bigints,
    }
    changed = rows[place] | {name: data.draw(of.get(name, texts))}
    assume(changed != rows[place])
    assert digest([*rows[:place], changed, *rows[place + 1 :]]) != expected


@on_files
@given(products)
def test_one_copy_more_or_less_changes_the_digest(digest, drawn):
    rows = rows_of(drawn)
    assert len({digest(rows), digest([*rows, rows[0]]), digest(rows[1:])}) == 3


@pytest.mark.parametrize("name", ["designation", "description", "image_path"])
def test_a_null_is_not_an_empty_text(digest, name):
    row = {
        "productid": 1,
        "designation": "a",
        "description": "a",
        "imageid": 1,
        "image_path": "a",
        "prdtypecode": 10,
    }
    assert digest([row | {name: None}]) != digest([row | {name: ""}])


def test_a_text_cannot_slip_from_one_column_into_the_next(digest):
    row = {"productid": 1, "imageid": 1, "image_path": "", "prdtypecode": 10}
    split = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("abc", None), (None, "abc")]
    digests = {digest([row | {"designation": title, "description": text}]) for title, text in split}
    assert len(digests) == len(split)


def test_a_file_that_the_snapshot_stage_has_written_has_the_digest_of_its_rows(tmp_path, digest):
    rows = [
        {
            "productid": n,
            "designation": f"t{n % 3}",
            "description": None,
            "imageid": n,
            "image_path": "p",
            "prdtypecode": 10 + n % 2,
        }
        for n in range(50)
    ]
    table = pa.Table.from_pylist(rows, SCHEMA)
    path = tmp_path / "written.parquet"
    write_balanced(path, [table.slice(0, 30), table.slice(30)], table["productid"].to_numpy() % 4 + 1)
    assert identity_of(path).digest == digest([row for row in rows for _ in range(row["productid"] % 4 + 1)])


@on_files
@given(products)
def test_every_product_s_proof_verifies_also_after_a_journey_as_json(dataset, drawn):
    path = dataset(rows_of(drawn))
    identity = identity_of(path)
    for productid, (content, copies) in drawn.items():
        proof = Proof.from_json(prove(path, productid).to_json())
        assert proof.row == ProductRow(productid=productid, **content)
        assert (proof.copies, proof.dataset, proof.dataset_digest) == (
            copies,
            "train_week_7",
            identity.digest,
        )
        assert proof.classes == identity.classes
        assert proof.verify(identity.digest)


@on_files
@given(products, st.data())
def test_a_proof_verifies_for_no_other_row_place_path_class_or_digest(dataset, drawn, data):
    path = dataset(rows_of(drawn))
    digest = identity_of(path).digest
    proof = prove(path, data.draw(st.sampled_from(sorted(drawn))))
    entry = proof.classes[0]
    changes = [
        {"row": proof.row.model_copy(update={"designation": "another"})},
        {"row": proof.row.model_copy(update={"productid": proof.row.productid ^ 1})},
        {"row": proof.row.model_copy(update={"prdtypecode": 7})},
        {"copies": proof.copies + 1},
        {"index": proof.index + 1},
        {"path": (*proof.path, entry.root)},
        {"path": (bytes(32), *proof.path[1:])},
        {"classes": proof.classes[1:]},
        {"classes": (*proof.classes, entry)},
        {"classes": (entry.model_copy(update={"root": bytes(32)}), *proof.classes[1:])},
        {"classes": (entry.model_copy(update={"rows": entry.rows + 1}), *proof.classes[1:])},
        {"classes": (entry.model_copy(update={"products": entry.products + 1}), *proof.classes[1:])},
    ]
    for change in changes:
        assert not proof.model_copy(update=change).verify(digest), change
    assert not proof.verify(sha256(digest.encode()).hexdigest())


@on_files
@given(products)
def test_there_is_no_proof_of_a_product_that_the_dataset_does_not_hold(dataset, drawn):
    assume(5000 not in drawn)
    assert prove(dataset(rows_of(drawn)), 5000) is None


def test_a_proof_is_short(dataset):
    row = {"designation": None, "description": None, "imageid": None, "image_path": None}
    rows = [{"productid": n, **row, "prdtypecode": n % 27} for n in range(27_000)]
    proof = prove(dataset(rows, row_group_size=4096), 13_500)
    assert len(proof.path) == 10  # of 1,000 products in its class
    assert len(proof.classes) == 27


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda proof: proof | {"copies": "2"}, "copies"),
        (lambda proof: proof | {"copies": 0}, "copies"),
        (lambda proof: proof | {"path": ["00"]}, "path.0"),
        (lambda proof: proof | {"path": ["no hash"]}, "path.0"),
        (lambda proof: proof | {"further": 1}, "further"),
        (lambda proof: {name: proof[name] for name in proof if name != "row"}, "row"),
        (lambda _proof: [], "not a proof"),
    ],
)
def test_what_is_no_proof_is_refused_with_the_place(dataset, change, said):
    row = {
        "productid": 1,
        "designation": "a",
        "description": "a",
        "imageid": 1,
        "image_path": "a",
        "prdtypecode": 10,
    }
    proof = json.loads(prove(dataset([row]), 1).to_json())
    with pytest.raises(BadInputError, match=said):
        Proof.from_json(json.dumps(change(proof)))
    with pytest.raises(BadInputError, match="not a proof"):
        Proof.from_json("{")
