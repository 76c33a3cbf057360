"""What a dataset is known by: a digest of its content, and a short proof that a product is in it.

The SHA-256 of a parquet file changes with its writer; this digest changes with the content alone, whatever the order of the
rows, the row groups or the compression. Anybody can compute it, from this definition:

- A row is encoded as its columns in order, each as the length of its bytes, in 4, and the bytes; the length is -1 for null.
  Texts are UTF-8, numbers have 8 bytes, all is big-endian. (PostgreSQL's binary COPY, where it says bigint and text.)
- A class is a Merkle tree (RFC 9162). An entry is a row's SHA-256 and how many copies of it there are, in 8 bytes; entries are
  sorted by productid, and by the SHA-256 where one product has several rows.
- The digest is the SHA-256 of all classes, ascending by code: code, products, rows, in 8 bytes each, and the tree's root.
- What is hashed begins with a byte that says what it is: 0 a tree's entry, 1 its node, 2 a row, 3 the list of classes.
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
    """Hashes are bytes here and hexadecimal in JSON."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, ser_json_bytes="hex", val_json_bytes="hex"
    )


class ProductRow(_Record):
    """A row of a dataset. The fields are the columns that its digest covers, in this order."""

    productid: _Bigint
    designation: str | None
    description: str | None
    imageid: _Bigint | None
    image_path: str | None
    prdtypecode: _Bigint

    def sha256(self) -> bytes:
        return sha256(_ROW + b"".join(map(_encoded, dict(self).values()))).digest()


class ClassIdentity(_Record):
    """One class of a dataset: how many distinct products, how many rows with all copies, and the root of its Merkle tree."""

    prdtypecode: _Bigint
    products: _Positive
    rows: _Positive
    root: _Sha256


class DatasetIdentity(_Record):
    """A dataset's classes, ascending by code."""

    classes: tuple[ClassIdentity, ...]

    @property
    def digest(self) -> str:
        """64 hexadecimal digits."""
        return _digest(self.classes)


class Proof(_Record):
    """That a dataset holds a row, so often and no oftener: log2(products) + classes hashes, whatever the dataset's size.

    Attributes:
        dataset: where it was found, for people; nothing proves the name.
        dataset_digest: the digest it was found under. `verify` takes one that comes from elsewhere.
        row: the product.
        copies: how many copies of it the dataset holds.
        index: its place among the products of its class.
        path: of its class's tree, from the leaf up.
        classes: all of the dataset.
    """

    dataset: str
    dataset_digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    row: ProductRow
    copies: _Positive
    index: Annotated[int, Field(ge=0, lt=2**63)]
    path: tuple[_Sha256, ...]
    classes: tuple[ClassIdentity, ...]

    def verify(self, digest: str) -> bool:
        """Whether the dataset of this digest holds the row, with just these copies."""
        leaf = leaf_hash(_entry(self.row.sha256(), self.copies))
        return _digest(self.classes) == digest and any(
            root_from_path(leaf, self.index, entry.products, self.path) == entry.root
            for entry in self.classes
            if entry.prdtypecode == self.row.prdtypecode
        )

    def to_json(self) -> str:
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises BadInputError where the text is no proof."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInputError(
                f"not a proof: {where + ': ' if where else ''}{first['msg']}",
                remedy="make one with rakuten prove --product P --dataset D --json",
            ) from None


_COUNTED: Final = np.dtype([("code", "i8"), ("productid", "i8"), ("hash", "V32"), ("copies", "i8")])


@dataclass(frozen=True)
class _Rows:
    """A dataset's distinct rows, sorted by prdtypecode, productid and the row's SHA-256: 56 bytes each, as there may be millions.

    All are of shape (distinct rows,): `hashes` of 32 bytes each (V32), the others int64.
    """

    codes: npt.NDArray[np.int64]
    productids: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.void]
    copies: npt.NDArray[np.int64]

    def classes(self) -> Iterator[slice]:
        """The rows of each class, ascending by code."""
        ends = np.flatnonzero(np.diff(self.codes)) + 1
        bounds = [0, *ends.tolist(), len(self.codes)]
        return (slice(first, end) for first, end in pairwise(bounds) if first < end)

    def leaves(self, rows: slice) -> list[bytes]:
        """The leaves of the Merkle tree of a class."""
        entries = zip(self.hashes[rows].tolist(), self.copies[rows].tolist(), strict=True)
        return [leaf_hash(_entry(row_hash, copies)) for row_hash, copies in entries]

    def identify(self, rows: slice, leaves: Sequence[bytes]) -> ClassIdentity:
        return ClassIdentity(
            prdtypecode=int(self.codes[rows.start]),
            products=rows.stop - rows.start,
            rows=int(self.copies[rows].sum()),
            root=root_of(leaves),
        )


def identity_of(path: Path) -> DatasetIdentity:
    """The identity of a parquet file with the columns of `ProductRow`, read a row group at a time."""
    dataset = _read(path)
    return DatasetIdentity(
        classes=tuple(dataset.identify(rows, dataset.leaves(rows)) for rows in dataset.classes())
    )


def prove(path: Path, productid: int) -> Proof | None:
    """The proof that a dataset holds a product, or None where it does not."""
    dataset = _read(path)
    found = np.flatnonzero(dataset.productids == productid)
    if not len(found):
        return None
    place = int(found[0])
    classes, index, siblings = [], 0, list[bytes]()
    for rows in dataset.classes():
        leaves = dataset.leaves(rows)
        classes.append(dataset.identify(rows, leaves))
        if rows.start <= place < rows.stop:
            index = place - rows.start
            siblings = audit_path(leaves, index)
    return Proof(
        dataset=path.stem,
        dataset_digest=_digest(classes),
        row=_row(path, productid, dataset.hashes[place].tobytes()),
        copies=int(dataset.copies[place]),
        index=index,
        path=tuple(siblings),
        classes=tuple(classes),
    )


def _row(path: Path, productid: int, row_hash: bytes) -> ProductRow:
    columns = list(ProductRow.model_fields)
    rows = pq.read_table(path, columns=columns, filters=[("productid", "=", productid)]).to_pylist()
    return next(row for row in map(ProductRow.model_validate, rows) if row.sha256() == row_hash)


def _digest(classes: Iterable[ClassIdentity]) -> str:
    records = (
        struct.pack(">3q32s", entry.prdtypecode, entry.products, entry.rows, entry.root) for entry in classes
    )
    return sha256(_DATASET + b"".join(records)).hexdigest()


def _entry(row_hash: bytes, copies: int) -> bytes:
    return row_hash + struct.pack(">q", copies)


def _encoded(value: int | str | None) -> bytes:
    if value is None:
        return struct.pack(">i", _NULL)
    content = value.encode() if isinstance(value, str) else struct.pack(">q", value)
    return struct.pack(">i", len(content)) + content


def _read(path: Path) -> _Rows:
    """How often each row occurs. Held is one row group; of copies that are adjacent one is looked at."""
    columns = list(ProductRow.model_fields)
    texts = [name for name, field in ProductRow.model_fields.items() if field.annotation == str | None]
    parts = [np.empty(0, _COUNTED)]
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns, use_threads=False).unify_dictionaries()
            starts = _starts(rows)
            distinct = rows.take(starts)
            part = np.empty(len(starts), _COUNTED)
            part["code"], part["productid"] = distinct["prdtypecode"], distinct["productid"]
            hashes = b"".join(sha256(encoded).digest() for encoded in _encode(distinct))
            part["hash"] = np.frombuffer(hashes, _COUNTED["hash"])
            part["copies"] = np.diff(starts, append=rows.num_rows)
            parts.append(part)
    return _merged(np.concatenate(parts))


def _merged(counted: npt.NDArray[np.void]) -> _Rows:
    """Sorted, and each row once: its copies may have been counted in several places."""
    words = np.ascontiguousarray(counted["hash"]).view(">u8").reshape(-1, 4)
    order = np.lexsort((*words.T[::-1], counted["productid"], counted["code"]))
    counted, words = counted[order], words[order]
    begins = np.ones(len(counted), np.bool_)
    begins[1:] = (words[1:] != words[:-1]).any(axis=1)
    for name in ("code", "productid"):
        begins[1:] |= counted[name][1:] != counted[name][:-1]
    first = np.flatnonzero(begins)
    return _Rows(
        codes=counted["code"][first],
        productids=counted["productid"][first],
        hashes=counted["hash"][first],
        copies=np.add.reduceat(counted["copies"], first) if len(first) else np.empty(0, np.int64),
    )


def _starts(rows: pa.Table) -> npt.NDArray[np.intp]:
    """Where a row begins that is not a copy of the one before."""
    begins = np.ones(rows.num_rows, np.bool_)
    begins[1:] = False
    for column in rows.combine_chunks().columns:
        values = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        indices = values.combine_chunks().indices.fill_null(_NULL).to_numpy()
        begins[1:] |= indices[1:] != indices[:-1]
    return np.flatnonzero(begins)


def _encode(rows: pa.Table) -> list[bytes]:
    """What `ProductRow.sha256` hashes, for all rows at once."""
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
    width = buffer.dtype.itemsize
    return pa.Array.from_buffers(pa.binary(width), len(buffer), [None, pa.py_buffer(buffer)]).cast(
        pa.binary()
    )
