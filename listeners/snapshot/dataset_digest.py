"""Compute the digest of a dataset's content, and make short proofs that a dataset holds a product.

The SHA-256 of a parquet file depends on the program that wrote the file. The digest of this module
depends only on the content, not on the order of rows, the row groups or the compression. Anybody can compute the digest from
this definition:

- A row is encoded column by column: the length of the value in 4 bytes, then the value. A null has length -1 and no value.
  Texts are UTF-8. Numbers have 8 bytes. Numbers and lengths are big-endian. (PostgreSQL's binary COPY encodes bigint and text
  in this way.)
- Each product class has a Merkle tree (RFC 9162). An entry of the tree is the SHA-256 of a row, then the row's number of copies
  in 8 bytes. Entries are in the order of their rows' productids, and of their SHA-256 if a product has several rows.
- The digest is the SHA-256 of the list of classes, ascending by code. An entry of the list is three numbers of 8 bytes (the
  class's code, its number of distinct rows, its number of rows with all copies), then the root of the class's tree.
- Each hash input begins with a byte for its kind: 0 is a tree's entry, 1 a tree's node, 2 a row, 3 the list of classes.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from listeners.snapshot.merkle import audit_path, leaf_hash, root_from_path, root_of
from shared.errors import BadInputError

_ROW: Final = b"\x02"
_DATASET: Final = b"\x03"
_NULL: Final = -1
_INTEGER_BYTES: Final = 8

_Bigint = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Positive = Annotated[int, Field(ge=1, lt=2**63)]
_Sha256 = Annotated[bytes, Field(min_length=32, max_length=32)]


class _Record(BaseModel):
    """A pydantic base class: a hash in a field is bytes in Python and hexadecimal digits in JSON."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, ser_json_bytes="hex", val_json_bytes="hex"
    )


class ProductRow(_Record):
    """A row of a dataset. The fields are the columns that the dataset's digest covers, in this order."""

    productid: _Bigint
    designation: str | None
    description: str | None
    imageid: _Bigint | None
    image_path: str | None
    prdtypecode: _Bigint

    def sha256(self) -> bytes:
        return sha256(_ROW + b"".join(map(_encode_value, dict(self).values()))).digest()


class ClassIdentity(_Record):
    """A product class in a dataset: code, number of distinct rows, number of rows with all copies, Merkle root of its rows."""

    prdtypecode: _Bigint
    products: _Positive
    rows: _Positive
    root: _Sha256


class DatasetIdentity(_Record):
    """The input of a dataset's digest: all product classes, ascending by code, each with the Merkle root of its rows."""

    classes: tuple[ClassIdentity, ...]

    @property
    def digest(self) -> str:
        """Return the dataset's digest as 64 hexadecimal digits."""
        return _digest(self.classes)


class Proof(_Record):
    """A proof that a dataset holds `row` in exactly `copies` copies.

    It is short: about log2(n) hashes, where n is the number of products in the class of `row`, and one hash for each class.

    Attributes:
        dataset: name of the dataset, for information only: the proof does not prove the name.
        dataset_digest: the dataset's digest when the proof was made. `verify` does not use this value.
        row: the row whose presence is proved.
        copies: number of copies of the row in the dataset.
        index: position of the row among the entries of its class's Merkle tree, from 0.
        path: sibling hashes in this tree, from the leaf up to the root (audit path).
        classes: all product classes of the dataset, with the root of each class's Merkle tree.
    """

    dataset: str
    dataset_digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    row: ProductRow
    copies: _Positive
    index: Annotated[int, Field(ge=0, lt=2**63)]
    path: tuple[_Sha256, ...]
    classes: tuple[ClassIdentity, ...]

    def verify(self, digest: str) -> bool:
        """Tell whether this proof shows that the dataset with this digest holds `row` in exactly `copies` copies."""
        leaf = leaf_of(self.row.sha256(), self.copies)
        return _digest(self.classes) == digest and any(
            root_from_path(leaf, self.index, entry.products, self.path) == entry.root
            for entry in self.classes
            if entry.prdtypecode == self.row.prdtypecode
        )

    def to_json(self) -> str:
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse a proof from JSON; raise BadInputError if the text is not a proof."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInputError(
                f"the JSON is not a proof: {where + ': ' if where else ''}{first['msg']}",
                remedy="make a proof with `rakuten prove --product P --dataset D --json`",
            ) from None


_COUNTED_ROW: Final = np.dtype([("code", "i8"), ("productid", "i8"), ("hash", "V32"), ("copies", "i8")])


@dataclass(frozen=True)
class CountedRows:
    """The distinct rows of a dataset, sorted by prdtypecode, productid and the row's SHA-256: 56 bytes for each row.

    All arrays have shape (distinct rows,). `hashes` holds SHA-256 values of 32 bytes (V32); the other arrays are int64.
    """

    codes: npt.NDArray[np.int64]
    productids: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.void]
    copies: npt.NDArray[np.int64]

    def classes(self) -> Iterator[slice]:
        """Yield one slice for each product class, ascending by code: the slice of the arrays with the rows of the class."""
        ends = np.flatnonzero(np.diff(self.codes)) + 1
        bounds = [0, *ends.tolist(), len(self.codes)]
        return (slice(first, end) for first, end in pairwise(bounds) if first < end)

    def leaves(self, rows: slice) -> list[bytes]:
        """Return the leaf hashes of the Merkle tree of one product class. `rows` is the slice of the rows of this class."""
        return list(map(leaf_of, self.hashes[rows].tolist(), self.copies[rows].tolist()))

    def identify(self, rows: slice, leaves: Sequence[bytes]) -> ClassIdentity:
        return ClassIdentity(
            prdtypecode=int(self.codes[rows.start]),
            products=rows.stop - rows.start,
            rows=int(self.copies[rows].sum()),
            root=root_of(leaves),
        )


def identity_of(path: Path) -> DatasetIdentity:
    """Compute the identity of a dataset from its parquet file, or folder of files, with the columns of `ProductRow`."""
    dataset = count_rows(path)
    return DatasetIdentity(
        classes=tuple(dataset.identify(rows, dataset.leaves(rows)) for rows in dataset.classes())
    )


def prove(path: Path, productid: int) -> Proof | None:
    """Return a proof that a dataset (a parquet file, or a folder of files) holds a product, or None if it lacks the product."""
    dataset = count_rows(path)
    found = np.flatnonzero(dataset.productids == productid)
    if not len(found):
        return None
    position = int(found[0])
    classes, index, siblings = [], 0, list[bytes]()
    for rows in dataset.classes():
        leaves = dataset.leaves(rows)
        classes.append(dataset.identify(rows, leaves))
        if rows.start <= position < rows.stop:
            index = position - rows.start
            siblings = audit_path(leaves, index)
    return Proof(
        dataset=path.stem,
        dataset_digest=_digest(classes),
        row=_find_row(path, productid, dataset.hashes[position].tobytes()),
        copies=int(dataset.copies[position]),
        index=index,
        path=tuple(siblings),
        classes=tuple(classes),
    )


def _find_row(path: Path, productid: int, row_hash: bytes) -> ProductRow:
    columns = list(ProductRow.model_fields)
    rows = pq.read_table(path, columns=columns, filters=[("productid", "=", productid)]).to_pylist()
    return next(row for row in map(ProductRow.model_validate, rows) if row.sha256() == row_hash)


def _digest(classes: Iterable[ClassIdentity]) -> str:
    records = (
        struct.pack(">3q32s", entry.prdtypecode, entry.products, entry.rows, entry.root) for entry in classes
    )
    return sha256(_DATASET + b"".join(records)).hexdigest()


def leaf_of(row_hash: bytes, copies: int) -> bytes:
    """Return the leaf hash of a row in the Merkle tree of its class."""
    return leaf_hash(row_hash + struct.pack(">q", copies))


def _encode_value(value: int | str | None) -> bytes:
    if value is None:
        return struct.pack(">i", _NULL)
    content = value.encode() if isinstance(value, str) else struct.pack(">q", value)
    return struct.pack(">i", len(content)) + content


def count_rows(path: Path) -> CountedRows:
    """Count the copies of each row in a parquet file, or in all files of a folder. Memory holds one row group at a time."""
    columns = list(ProductRow.model_fields)
    texts = [name for name, field in ProductRow.model_fields.items() if field.annotation == str | None]
    parts = [np.empty(0, _COUNTED_ROW)]
    for name in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
        with pq.ParquetFile(name, read_dictionary=texts) as file:
            groups = (file.read_row_group(i, columns, use_threads=False) for i in range(file.num_row_groups))
            parts += map(_count_group, groups)
    return _merge_counts(np.concatenate(parts))


def _count_group(rows: pa.Table) -> npt.NDArray[np.void]:
    rows = rows.unify_dictionaries()
    starts = _run_starts(rows)
    distinct = rows.take(starts)
    counted = np.empty(len(starts), _COUNTED_ROW)
    counted["code"], counted["productid"] = distinct["prdtypecode"], distinct["productid"]
    hashes = b"".join(sha256(encoded).digest() for encoded in _encode_rows(distinct))
    counted["hash"] = np.frombuffer(hashes, _COUNTED_ROW["hash"])
    counted["copies"] = np.diff(starts, append=rows.num_rows)
    return counted


def _merge_counts(counted: npt.NDArray[np.void]) -> CountedRows:
    """Sort counted rows by class, productid and SHA-256. Merge rows that differ only in `copies`, and add up their copies."""
    words = np.ascontiguousarray(counted["hash"]).view(">u8").reshape(-1, 4)
    order = np.lexsort((*words.T[::-1], counted["productid"], counted["code"]))
    counted, words = counted[order], words[order]
    begins = np.ones(len(counted), np.bool_)
    begins[1:] = (words[1:] != words[:-1]).any(axis=1)
    for name in ("code", "productid"):
        begins[1:] |= counted[name][1:] != counted[name][:-1]
    first = np.flatnonzero(begins)
    return CountedRows(
        codes=counted["code"][first],
        productids=counted["productid"][first],
        hashes=counted["hash"][first],
        copies=np.add.reduceat(counted["copies"], first) if len(first) else np.empty(0, np.int64),
    )


def _run_starts(rows: pa.Table) -> npt.NDArray[np.intp]:
    """Return the positions of the first row and of each row that differs from the row before it."""
    begins = np.ones(rows.num_rows, np.bool_)
    begins[1:] = False
    for column in rows.combine_chunks().columns:
        values = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        indices = values.combine_chunks().indices.fill_null(_NULL).to_numpy()
        begins[1:] |= indices[1:] != indices[:-1]
    return np.flatnonzero(begins)


def _encode_rows(rows: pa.Table) -> list[bytes]:
    """Encode all rows of a table at once: return, for each row, the bytes that `ProductRow.sha256` hashes."""
    parts: list[Any] = [_ROW]
    for column in rows.combine_chunks().columns:
        values = column.combine_chunks()
        if pa.types.is_dictionary(values.type):
            content = values.cast(pa.string()).cast(pa.binary())
        else:
            content = _as_bytes(values.cast(pa.int64()).fill_null(0).to_numpy(), ">i8")
        lengths = pc.if_else(values.is_null(), _NULL, pc.binary_length(content).fill_null(0))
        parts += [_as_bytes(lengths.to_numpy(), ">i4"), pc.if_else(values.is_null(), b"", content)]
    encoded: list[bytes] = pc.binary_join_element_wise(*parts, b"").to_pylist()
    return encoded


def _as_bytes(numbers: npt.NDArray[np.integer], layout: str) -> pa.Array:
    buffer = np.ascontiguousarray(numbers, layout)
    kind = pa.binary(buffer.dtype.itemsize)
    return pa.Array.from_buffers(kind, len(buffer), [None, pa.py_buffer(buffer)]).cast(pa.binary())
