"""The check of the image files: missing, unreadable and repeated ones are counted."""

import sys

import pytest
from PIL import Image

from db.source.images import check_images

NAMES = ("image_900_product_100.jpg", "image_901_product_101.jpg", "image_902_product_102.jpg")


@pytest.fixture
def folder(sources):
    folder = sources.directory / "images" / "image_train"
    folder.mkdir(parents=True)
    return folder


def save(path, colour="red"):
    Image.new("RGB", (500, 500), colour).save(path)


def test_without_image_folders_nothing_is_read(sources):
    assert list(check_images(sources.directory)) == []


def test_missing_images_are_named(folder, sources):
    save(folder / NAMES[1])
    [found] = check_images(sources.directory)
    assert (found.folder, found.images, found.missing) == (folder, 3, [NAMES[0], NAMES[2]])
    assert (found.unreadable, found.repeated) == ([], 0)


def test_images_with_the_same_content_are_counted_once(folder, sources):
    for name in NAMES:
        save(folder / name, "red" if name != NAMES[1] else "blue")
    [found] = check_images(sources.directory)
    assert (found.missing, found.unreadable, found.repeated) == ([], [], 1)


@pytest.mark.parametrize("kept", [0, 100, 1500])
def test_a_damaged_image_is_unreadable(folder, sources, kept):
    for name in NAMES:
        save(folder / name)
    content = (folder / NAMES[1]).read_bytes()
    assert kept < len(content)
    (folder / NAMES[1]).write_bytes(content[:kept])
    seen = []
    [found] = check_images(sources.directory, lambda *progress: seen.append(progress))
    assert found.unreadable == [NAMES[1]]
    assert seen[-1] == (3, 3)


def test_without_pillow_nobody_tells_what_can_be_read(folder, sources, monkeypatch):
    (folder / NAMES[0]).touch()
    monkeypatch.setitem(sys.modules, "PIL", None)
    [found] = check_images(sources.directory)
    assert found.unreadable is None
