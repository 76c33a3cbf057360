"""`rakuten status --storage` says how much space everything takes, and until when the disk is large enough."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from rakuten.console import fitting_table, readable_bytes
from rakuten.storage import Place, Storage
from rakuten.storage_table import COLUMNS, sentences
from shared.disk import Disk, measure_disk

GB = 2**30
DATABASE = Place("database", "rakuten_db", 2 * GB, bytes_per_week=GB)
PRODUCTS = Place(
    "current", "products", GB, index_bytes=GB // 2, bytes_per_week=GB // 2, is_part_of_database=True
)
MODELS = Place("artifacts", "models", 3 * GB, bytes_per_week=GB, runs_without_size=2)
WAL = Place("write-ahead log", "pg_wal", GB)


def storage(*places: Place, free: int = 20 * GB, weeks: int = 5) -> Storage:
    return Storage([*places], Disk(Path("/srv/state"), 100 * GB, free), weeks)


def test_a_table_is_not_counted_beside_its_database():
    found = storage(DATABASE, PRODUCTS, MODELS, WAL)
    assert (found.bytes, found.bytes_per_week) == (6 * GB, 2 * GB)


def test_the_days_left_are_the_free_space_divided_by_the_growth():
    assert storage(DATABASE, MODELS).days_left == 70
    assert storage(WAL).days_left is None


@pytest.mark.parametrize(
    ("free", "weeks", "nearly_full"),
    [
        (4 * GB, 5, False),
        (4 * GB - 1, 5, True),
        (4 * GB - 1, 1, False),
        (2 * GB - 1, 1, True),
        (0, 0, False),
    ],
)
def test_a_disk_is_nearly_full_if_the_next_two_weeks_to_come_do_not_fit(free, weeks, nearly_full):
    assert storage(DATABASE, MODELS, free=free, weeks=weeks).is_nearly_full is nearly_full


def test_the_sentences_say_what_the_numbers_mean():
    assert sentences(storage(DATABASE, MODELS)) == [
        "Everything takes 5.0 GB and grows by about 2.0 GB a week.",
        "The disk of STATE_PATH (/srv/state) has 20 GB of 100 GB free.",
        "With one load a week it is full in about 70 days, if it holds everything.",
        "The 5 weeks still to load need about 10 GB, which fits.",
    ]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (storage(WAL), "Everything takes 1.0 GB."),
        (storage(WAL), "The growth is known when two weeks are loaded."),
        (storage(DATABASE, weeks=0), "All weeks are loaded, so only corrections add data."),
        (
            storage(DATABASE, free=1000 * GB),
            "With one load a week it is full in more than ten years, if it holds everything.",
        ),
        (
            storage(DATABASE, free=0, weeks=1),
            "The last week still to load needs about 1.0 GB, which does not fit.",
        ),
    ],
)
def test_the_sentences_fit_what_is_known(found, said):
    assert said in sentences(found)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits(width):
    output = io.StringIO()
    table = fitting_table(COLUMNS, [DATABASE, PRODUCTS, MODELS, WAL], width)
    Console(file=output, width=1000).print(table)
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "a week" in lines[1]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 kB"),
        (10 * 1024, "10 kB"),
        (1.5 * GB, "1.5 GB"),
        (2**60, "1,048,576 TB"),
    ],
)
def test_a_number_of_bytes_is_written_in_a_unit_that_is_easy_to_read(count, text):
    assert readable_bytes(count) == text


def test_the_disk_of_a_folder_that_does_not_exist_yet_is_that_of_the_folder_above(tmp_path):
    assert measure_disk(tmp_path / "a" / "b").size_bytes == measure_disk(tmp_path).size_bytes > 0
