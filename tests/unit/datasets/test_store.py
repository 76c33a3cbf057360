"""A store shows whole files only, and a manifest covers each byte of a dataset."""

import pytest
from free_port import free_port

from listeners.datasets.manifest import MANIFEST, Manifest, Part
from listeners.datasets.store import Store, dataset_store
from shared.config import read_settings
from shared.errors import BadInputError, OutageError, StageError, VerificationError


@pytest.fixture(params=["path", "file://"])
def store(request, tmp_path) -> Store:
    made = Store(str(tmp_path / "a b") if request.param == "path" else f"file://{tmp_path}/store")
    made.create()
    return made


def test_files_are_written_read_listed_and_removed(store):
    folder = store.folder("train_week_1").folder("attempt-000001")
    assert store.folders() == folder.folders() == []
    folder.create()
    folder.create()
    folder.write("a", b"1")
    folder.write("a", b"2")
    assert folder.read("a") == b"2"
    with folder.reading("a") as path:
        assert path.read_bytes() == b"2"
    assert store.folders() == ["train_week_1"]
    store.folder("train_week_1").remove()
    store.folder("train_week_1").remove()
    assert store.folders() == []
    with pytest.raises(FileNotFoundError):
        folder.read("a")


def test_a_file_that_could_not_be_written_leaves_nothing(store):
    def fail():
        with store.writing("a") as path:
            path.write_bytes(b"half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        fail()
    with pytest.raises(FileNotFoundError):
        store.read("a")
    with store.reading(".") as folder:
        assert list(folder.iterdir()) == []


def test_a_killed_tasks_file_is_removed_and_no_complete_one(store):
    store.write("part-000000.parquet", b"whole")
    with store.writing("part-000001.parquet") as path:
        path.write_bytes(b"half")
        store.remove_partial_files()
        assert not path.exists()
        path.write_bytes(b"half")
    with store.reading(".") as folder:
        assert len(list(folder.iterdir())) == 2


def test_nothing_is_written_where_the_disk_of_the_store_is_not_mounted(store):
    folder = store.folder("train_week_1")
    with pytest.raises(OutageError, match="is missing"):
        folder.write("part-000000.parquet", b"1")
    assert store.folders() == []


def test_a_missing_store_is_an_outage_until_it_is_created_or_mounted(tmp_path):
    own, given = (
        read_settings(state_path=tmp_path, dataset_store=named, _env_file=None)
        for named in (None, str(tmp_path / "mounted"))
    )
    assert dataset_store(own).uri == str(tmp_path / "datasets")
    assert (tmp_path / "datasets").is_dir()
    with pytest.raises(OutageError, match="is missing") as failed:
        dataset_store(given)
    assert failed.value.remedy == "mount or create it"
    (tmp_path / "mounted").mkdir()
    assert dataset_store(given).folders() == []


def test_a_store_that_no_file_system_knows_is_refused_until_a_known_one_is_named(tmp_path):
    with pytest.raises(BadInputError, match="DATASET_STORE=ftp://x/y cannot be used"):
        Store("ftp://x/y").folders()
    assert Store(f"file://{tmp_path}/none").folders() == []


def test_a_folder_of_a_store_with_options_is_in_its_path():
    store = Store("s3://bucket/datasets/?region=eu-west-1")
    folder = store.folder("rakuten").folder("train_week_1")
    assert folder.uri == "s3://bucket/datasets/rakuten/train_week_1?region=eu-west-1"
    assert folder.parent.parent.uri == "s3://bucket/datasets?region=eu-west-1"


def test_a_store_that_does_not_answer_is_an_outage(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    options = f"endpoint_override=127.0.0.1:{free_port()}&scheme=http&region=eu-west-1"
    store = Store(f"s3://bucket/datasets?{options}")
    for use in (store.folders, lambda: store.write(MANIFEST, b"{}")):
        with pytest.raises(OutageError, match="does not answer") as failed:
            use()
        assert failed.value.remedy.startswith("look whether the store runs")


def test_the_address_of_a_store_is_the_same_in_each_folder_and_has_no_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_settings(dataset_store="d", _env_file=None).dataset_store == str(tmp_path / "d")
    uri = "s3://bucket/datasets"
    assert read_settings(dataset_store=uri, _env_file=None).dataset_store == uri
    with pytest.raises(BadInputError, match="a key in the address would be recorded"):
        read_settings(dataset_store="s3://KEY:SECRET@bucket/datasets", _env_file=None)


def test_a_manifest_is_read_back_and_notices_each_change(store):
    manifest = Manifest(
        dataset="train_week_1",
        batch_id=1,
        random_seed=-1,
        products_up_to=2,
        labels_up_to=2,
        entries_per_part=64,
        products=1,
        rows=3,
        dataset_digest="0" * 64,
        parts=[Part(number=0, name="part-000000.parquet", products=1, rows=3, size=1, sha256="1" * 64)],
    )
    with pytest.raises(StageError, match="there is no dataset in"):
        Manifest.read(store, manifest.sha256)
    manifest.write(store)
    assert Manifest.read(store, manifest.sha256) == manifest
    assert manifest.size == 1
    with pytest.raises(VerificationError, match=r"part-000000\.parquet is missing"):
        manifest.require_unchanged(store)
    store.write("part-000000.parquet", b"x")
    with pytest.raises(VerificationError, match="its manifest has 1111"):
        manifest.require_unchanged(store)
    store.write(MANIFEST, manifest.content + b" ")
    with pytest.raises(VerificationError, match="was recorded"):
        Manifest.read(store, manifest.sha256)
