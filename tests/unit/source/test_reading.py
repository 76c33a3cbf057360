"""Good source files are read exactly."""

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_files import X_HEADER, X_ROWS, Y_HEADER, Y_ROWS

from db.source import csv_file
from db.source.csv_file import open_csv
from db.source.training_set import (
    X_TEST,
    X_TRAIN,
    Y_TEST,
    Y_TRAIN,
    check_source,
    fingerprints,
    read_test_set,
)
from shared.errors import SourceChangedError


def test_good_files_have_no_problems(sources):
    assert check_source(sources.directory) == []


def test_generated_files_have_no_problems(generated):
    assert check_source(generated) == []


def test_values_are_read_exactly(sources):
    table = sources.training_table()
    assert table.to_pylist() == [
        {
            "index": 0,
            "productid": 100,
            "imageid": 900,
            "designation": 'Vase, "bleu"',
            "description": "ligne 1\nligne 2\r\n\nligne 4",
            "prdtypecode": 10,
        },
        {
            "index": 1,
            "productid": 101,
            "imageid": 901,
            "designation": "Livre",
            "description": None,
            "prdtypecode": 2583,
        },
        {
            "index": 2,
            "productid": 102,
            "imageid": 902,
            "designation": "Jeu",
            "description": "NA",
            "prdtypecode": 40,
        },
    ]


@pytest.mark.parametrize(
    "word", ["NA", "None", "null", "NULL", "nan", "NaN", "N/A", "#N/A", "true", "1.0", "-", " ", "0"]
)
def test_words_that_look_like_nothing_are_words(sources, word):
    sources.write(X_TRAIN, X_HEADER, f"0,{word},{word},100,900\n", *X_ROWS[1:])
    row = sources.training_table().slice(0, 1).to_pylist()[0]
    assert (row["designation"], row["description"]) == (word, word)


@pytest.mark.parametrize("empty", ["", '""'])
def test_an_empty_field_is_null(sources, empty):
    sources.write(X_TRAIN, X_HEADER, f"0,{empty},{empty},100,900\n", *X_ROWS[1:])
    row = sources.training_table().slice(0, 1).to_pylist()[0]
    assert (row["designation"], row["description"]) == (None, None)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_a_byte_order_mark_change_nothing(sources, newline, bom):
    expected = sources.training_table().slice(1)
    for name, header, rows in ((X_TRAIN, X_HEADER, X_ROWS), (Y_TRAIN, Y_HEADER, Y_ROWS)):
        text = header + "".join(rows[1:])
        sources.write(name, bom, text.replace("\n", newline))
    assert sources.training_table().equals(expected)


def test_a_quoted_header_after_a_byte_order_mark_is_read(sources):
    header = '"","designation","description","productid","imageid"\n'
    sources.write(X_TRAIN, b"\xef\xbb\xbf", header, *X_ROWS)
    assert check_source(sources.directory) == []


def test_characters_of_four_bytes_are_read(sources):
    sources.write(X_TRAIN, X_HEADER, "0,🎲 dés 🫖,é漢字,100,900\n", *X_ROWS[1:])
    row = sources.training_table().slice(0, 1).to_pylist()[0]
    assert (row["designation"], row["description"]) == ("🎲 dés 🫖", "é漢字")


def test_a_quote_in_the_middle_of_an_unquoted_field_is_a_character(sources):
    sources.write(X_TRAIN, X_HEADER, '0,TV 42" LED,5" 6",100,900\n', *X_ROWS[1:])
    row = sources.training_table().slice(0, 1).to_pylist()[0]
    assert (row["designation"], row["description"]) == ('TV 42" LED', '5" 6"')


def test_columns_may_come_in_any_order_with_others_among_them(sources):
    expected = sources.training_table().slice(1)
    sources.write(
        X_TRAIN,
        "imageid,note,,productid,description,designation,note\n",
        '901,"a\nb",1,101,,Livre,\n',
        "902,,2,102,NA,Jeu,x\n",
    )
    sources.write(Y_TRAIN, Y_HEADER, *Y_ROWS[1:])
    assert sources.training_table().equals(expected)


def test_numbers_fill_their_columns(sources):
    sources.write(X_TRAIN, X_HEADER, f"0,a,b,{10**18 - 1},{10**18 - 1}\n", "1,a,b,0,0\n")
    sources.write(Y_TRAIN, Y_HEADER, f"0,{10**9 - 1}\n", "1,0\n")
    table = sources.training_table()
    assert table["productid"].to_pylist() == [10**18 - 1, 0]
    assert table["prdtypecode"].to_pylist() == [10**9 - 1, 0]


def test_line_ends_inside_quotes_survive_wherever_the_reader_cuts_the_file(sources, monkeypatch):
    monkeypatch.setattr(csv_file, "_BLOCK_BYTES", 64)  # all borders of blocks, without a file of megabytes
    text = "\r\n" * 5
    for padding in range(64):
        sources.write(X_TEST, X_HEADER, f'7,{"x" * padding},"{text}",200,910\n')
        assert read_test_set(sources.directory)["description"].to_pylist() == [text]


def test_labels_are_joined_by_index_whatever_their_order(sources):
    expected = sources.training_table()
    sources.write(Y_TRAIN, Y_HEADER, *reversed(Y_ROWS))
    assert sources.training_table().equals(expected)


def test_test_rows_carry_their_image_and_labels_where_there_are_some(sources):
    (row,) = read_test_set(sources.directory).to_pylist()
    assert row["image_path"] == "images/image_test/image_910_product_200.jpg"
    assert "prdtypecode" not in row
    sources.write(Y_TEST, Y_HEADER, "7,60\n")
    (row,) = read_test_set(sources.directory).to_pylist()
    assert row["prdtypecode"] == 60


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    # the first column is the index of the real files: a row without any value is an empty line
    rows=st.lists(st.tuples(texts.filter(bool), texts, texts), min_size=1, max_size=20),
    # Before Python 3.13, csv.QUOTE_MINIMAL leaves a carriage return bare that is no part of the line end.
    style=st.sampled_from(
        [("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_NONNUMERIC)]
    ),
)
def test_any_table_of_texts_is_read_back(tmp_path, rows, style):
    newline, quoting = style
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator=newline, quoting=quoting)
    writer.writerow(["a", "b", "c"])
    writer.writerows(rows)
    path = tmp_path / "texts.csv"
    path.write_bytes(buffer.getvalue().encode())
    expected = [tuple(text or None for text in row) for row in rows]
    table = open_csv(path, ["a", "b", "c"]).whole().text
    assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == expected


def test_a_file_that_is_changed_after_it_was_checked_is_not_read_on(sources):
    training_set = sources.training_set()
    sources.write(X_TRAIN, X_HEADER, *X_ROWS[1:])
    with pytest.raises(SourceChangedError, match=r"X_train.csv has been changed while it was read"):
        training_set.rows(0, 3)


def test_rows_are_read_alike_wherever_the_file_is_cut(sources, monkeypatch):
    expected = sources.training_table()
    for name in ("_BLOCK_BYTES", "_SCANNED_BYTES"):
        for size in range(1, 100):
            monkeypatch.setattr(csv_file, name, size)
            assert sources.training_table().equals(expected), (name, size)
        monkeypatch.undo()


def test_a_fingerprint_is_the_sha256_of_a_file(sources):
    sources.write(X_TRAIN, "abc")
    found = fingerprints(sources.directory)
    assert found[X_TRAIN] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert set(found) == {X_TRAIN, Y_TRAIN, X_TEST}
