"""Examination of a folder's files: once, in parallel, with a cache."""

import json
import os

import numpy as np
import pytest
from PIL import Image

import foveal
from foveal.core.progress import progress_shown
from foveal.data import examine_files as module
from foveal.data.examine_files import cache_file, examine_files
from foveal.data.file_facts import examine
from foveal.data.file_tree import Folder

OLD = 1_000_000_000  # seconds


def settle(path):
    os.utime(path, (OLD, OLD))
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WORTH", 0.0)
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    for label in range(2):
        (root / f"{label}").mkdir(parents=True)
        for index in range(10):
            Image.new("L", (9, 9), 100 * label + index).save(root / f"{label}/{index}.png")
    Image.fromarray(np.arange(81, dtype=np.uint16).reshape(9, 9) * 10).save(root / "0/deep.png")
    (root / "1/text.png").write_text("no image")
    for path in root.rglob("*.png"):
        settle(path)
    return root


def stamps_of(root):
    return dict(Folder.at(root).walk(""))


@pytest.fixture
def examined(monkeypatch):
    names = []

    def noted(path, whole):
        names.append(os.path.basename(path))
        return examine(path, whole)

    monkeypatch.setattr(module, "examine", noted)
    return names


def test_examine_files_examines_a_file_once_until_it_changes(root, examined):
    stamps = stamps_of(root)
    first = examine_files(root, list(stamps), stamps)
    assert len(examined) == len(stamps) == 22
    assert first["0/deep.png"].values == (0, 800)
    assert first["1/text.png"].reason == "not an image by its content"
    examined.clear()
    assert examine_files(root, list(stamps), stamps) == first
    assert not examined
    Image.new("L", (9, 9), 7).save(root / "1/text.png")  # another size
    same = (root / "0/1.png").read_bytes()
    (root / "0/1.png").write_bytes(same)
    os.utime(root / "0/1.png", (OLD + 5, OLD + 5))  # the same size at another time
    settle(root / "1/text.png")
    stamps = stamps_of(root)
    again = examine_files(root, list(stamps), stamps)
    assert sorted(examined) == ["1.png", "text.png"]
    assert again["1/text.png"].reason is None


def test_examine_files_does_not_keep_what_may_still_change(root, examined):
    Image.new("L", (9, 9)).save(root / "0/fresh.png")
    stamps = stamps_of(root)
    examine_files(root, list(stamps), stamps)
    examined.clear()
    examine_files(root, list(stamps), stamps)
    assert examined == ["fresh.png"]


def test_examine_files_decodes_whole_files_without_the_cache(root, examined):
    stamps = stamps_of(root)
    examine_files(root, list(stamps), stamps, whole=True)
    assert not cache_file(root).exists()
    examine_files(root, list(stamps), stamps)
    examined.clear()
    examine_files(root, list(stamps), stamps, whole=True)
    assert len(examined) == len(stamps)


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"rules": 1}', "rules", "facts", "entry"])
def test_examine_files_ignores_a_cache_that_is_not_its_own(root, examined, broken):
    stamps = stamps_of(root)
    expected = examine_files(root, list(stamps), stamps)
    path = cache_file(root)
    stored = json.loads(path.read_text())
    changes = {
        "rules": {**stored, "rules": "older"},
        "facts": {**stored, "facts": [{"page": 1}]},
        "entry": {**stored, "files": {name: [*entry[:2], 99] for name, entry in stored["files"].items()}},
    }
    path.write_text(json.dumps(changes[broken]) if broken in changes else broken)
    examined.clear()
    assert examine_files(root, list(stamps), stamps) == expected
    assert len(examined) == len(stamps)
    assert json.loads(path.read_text()) == stored  # written anew


def test_examine_files_goes_on_where_the_cache_cannot_be_written(root, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "file"))
    stamps = stamps_of(root)
    assert len(examine_files(root, list(stamps), stamps)) == 22


def test_examine_files_in_several_processes_agrees_with_one(root, monkeypatch):
    stamps = stamps_of(root)
    alone = examine_files(root, list(stamps), stamps, whole=True)
    monkeypatch.setattr(module, "BATCH", 4)
    done = []
    with progress_shown(lambda *each: done.append(each)):
        together = examine_files(root, list(stamps), stamps, whole=True)
    assert together == alone
    assert list(together) == list(stamps)
    assert done == [("checking images", count, 22) for count in (4, 8, 12, 16, 20, 22)]


def test_load_data_is_the_same_from_the_cache_and_decodes_no_image(root, monkeypatch):
    first = foveal.load_data(root, image_size=16)
    monkeypatch.setattr(module, "examine", lambda *_: pytest.fail("examined again"))
    second = foveal.load_data(root, image_size=16)
    assert second.split == first.split
    assert (second.skipped, second.notes, second.preprocessing) == (first.skipped, first.notes, first.preprocessing)


def test_load_data_finds_files_broken_within_when_it_decodes_all(root):
    path = root / "0/3.png"
    content = bytearray(path.read_bytes())
    content[45:55] = b"\0" * 10  # within the pixels
    path.write_bytes(content)
    assert "0/3.png" not in foveal.load_data(root, image_size=16).skipped
    assert foveal.load_data(root, image_size=16, decode=True).skipped["0/3.png"].startswith("cannot be read: ")
