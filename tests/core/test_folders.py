"""Folders that foveal fills: markers, locks, remains of killed processes."""

import os
import subprocess
import sys

import pytest
from filelock import FileLock

from foveal.core.folders import LOCK, MARKER, check_folder_is_ours, drafts_removed, locked_folder

HOLD = """
import sys, time
from pathlib import Path
from foveal.core.folders import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_locked_folder_marks_new_and_empty_folders_and_takes_them_again(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new/folder", tmp_path / "empty"):
        for _ in range(2):
            with locked_folder(folder):
                assert (folder / MARKER).is_file()
            (folder / "result").write_text("x")


def test_locked_folder_refuses_files_of_others_and_other_kinds_of_paths(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_text("mine")
    with (
        pytest.raises(ValueError, match=r"holds files that foveal did not write, such as 'a.png'"),
        locked_folder(folder),
    ):
        pass
    assert [path.name for path in folder.iterdir()] == ["a.png"]
    check_folder_is_ours(folder, overwrite=True)
    with pytest.raises(ValueError, match="is a file; name a folder"):
        check_folder_is_ours(folder / "a.png", overwrite=True)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a link to nothing"):
        check_folder_is_ours(tmp_path / "link")


def test_locked_folder_is_refused_to_others_until_its_process_dies(tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)  # noqa: S603
    assert process.stdout.readline() == b"locked\n"
    refused = pytest.raises(ValueError, match=rf"is being written by process {process.pid} on .*; wait for its end")
    with refused, locked_folder(folder):
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    with locked_folder(folder):
        assert str(os.getpid()) in (folder / MARKER).read_text()


def test_locked_folder_deletes_the_half_files_of_a_killed_process(tmp_path):
    with locked_folder(tmp_path / "run"):
        pass
    half, own = tmp_path / "run/.foveal-0123456789ab.half.csv", tmp_path / "run/.my.half"
    half.write_text("hal")
    own.write_text("mine")
    with locked_folder(tmp_path / "run"):
        assert not half.exists()
        assert own.exists()


def test_drafts_removed_spares_folders_of_other_processes_and_of_users(tmp_path):
    ours, users, absent = tmp_path / "ours", tmp_path / "users", tmp_path / "absent"
    for folder in (ours, users):
        folder.mkdir()
    with locked_folder(ours):
        pass
    (users / "notes.txt").touch()
    for folder in (ours, users):
        (folder / ".foveal-1.half.json").touch()
    with pytest.raises(KeyboardInterrupt), drafts_removed([ours, users, absent]):
        raise KeyboardInterrupt
    assert not [*ours.glob(".*.half*")]
    assert (users / ".foveal-1.half.json").is_file()
    assert not absent.exists()
    lock = FileLock(ours / LOCK)
    (ours / ".foveal-2.half.json").touch()
    with lock, drafts_removed([ours]):
        pass
    assert (ours / ".foveal-2.half.json").is_file()
