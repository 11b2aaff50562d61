"""Folders, read once."""

import os
from pathlib import Path

import pytest

from foveal.data.file_tree import Folder


@pytest.fixture
def root(tmp_path):
    for name in (
        "b/x.png",
        "b/a/y.JPG",
        "b/a.png",
        "b/a0.png",
        "b/.hidden/z.png",
        "b/n.txt",
        "a/k.txt",
        "__pycache__/q.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_walk_yields_files_in_the_order_of_paths(root):
    found = dict(Folder.at(root).folder("b").walk("b/"))
    expected = [path.relative_to(root).as_posix() for path in sorted((root / "b").rglob("*")) if path.is_file()]
    assert list(found) == expected
    stat = (root / "b/a/y.JPG").stat()
    assert found["b/a/y.JPG"] == (stat.st_size, stat.st_mtime_ns)


def test_folder_tells_images_from_others(root):
    folder = Folder.at(root)
    assert [each.name for each in folder.folders] == ["a", "b"]
    assert [each.name for each in folder.subfolders] == ["__pycache__", "a", "b"]
    assert [each.holds_images for each in folder.folders] == [False, True]
    assert folder.folder("b").images == ["a.png", "a0.png", "x.png"]
    assert folder.folder("b").count_images() == 5
    assert folder.folder("") is folder
    for name in ("c", "b/x.png", "b/a/c"):
        with pytest.raises(KeyError):
            folder.folder(name)


def test_links_to_folders_are_entered_by_name_and_not_followed_below(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "w.png").write_text("")
    os.symlink(other, root / "linked")
    os.symlink(root, root / "b" / "loop")
    os.symlink(root / "nowhere", root / "b" / "broken.png")
    folder = Folder.at(root)
    assert folder.folder("linked").images == ["w.png"]
    names = [name for name, _ in folder.folder("b").walk("b/")]
    assert not any("loop" in name or "broken" in name for name in names)
    assert folder.folder("b").count_images() == 5
    assert Path(folder.folder("linked").path) == root / "linked"
