"""Bytes as the PostgreSQL documentation describes binary COPY, one message for each row."""

import struct

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from listeners.snapshot.copy_binary import tables
from shared.errors import VerificationError

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("code", pa.int32()),
        ("last", pa.string()),
        ("kept", pa.bool_()),
    ]
)
LAYOUTS = {"id": ">q", "code": ">i", "kept": ">?"}

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = struct.pack(">h", -1)

texts = st.none() | st.text(max_size=5)
rows_drawn = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.none() | st.integers(-(2**63), 2**63 - 1),
            "text": texts,
            "code": st.none() | st.integers(-(2**31), 2**31 - 1),
            "last": texts,
            "kept": st.none() | st.booleans(),
        }
    ),
    max_size=9,
)


def field(name, value):
    if value is None:
        return struct.pack(">i", -1)
    content = value.encode() if isinstance(value, str) else struct.pack(LAYOUTS[name], value)
    return struct.pack(">i", len(content)) + content


def messages(rows):
    encoded = [
        struct.pack(">h", len(row)) + b"".join(field(name, row[name]) for name in SCHEMA.names)
        for row in rows
    ]
    first, *others = [*encoded, TRAILER]
    return [memoryview(HEADER + first), *map(memoryview, others)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows_drawn, st.integers(1, 4))
def test_every_value_arrives_as_it_was_sent_in_tables_of_exactly_so_many_rows(rows, rows_per_table):
    read = list(tables(messages(rows), SCHEMA, rows_per_table))
    assert [row for table in read for row in table.to_pylist()] == rows
    assert all(table.schema == SCHEMA for table in read)
    assert [table.num_rows for table in read[:-1]] == [rows_per_table] * (len(read) - 1)


@pytest.mark.parametrize("change", [lambda row: row + b"\0", lambda row: row[:-1], lambda row: row + row])
def test_a_message_that_is_not_one_row_is_refused(change):
    row = {"id": 1, "text": "a", "code": 2, "last": "b", "kept": True}
    first, second, trailer = messages([row, row])
    with pytest.raises(VerificationError, match="not the rows asked for"):
        list(tables([first, change(bytes(second)), trailer], SCHEMA, 10))
