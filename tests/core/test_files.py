"""Whole files: contents, modes, failures, files of others."""

import os
import resource
import stat
from pathlib import Path

import pytest

from foveal.core.files import WRITTEN_BY, check_replaceable, output_path, whole_file, write_file


def test_write_file_writes_text_and_bytes_into_new_folders(tmp_path):
    assert write_file(tmp_path / "a/b/text.txt", "größer").read_bytes() == "größer".encode()
    assert write_file(tmp_path / "bytes", b"\x00\x01").read_bytes() == b"\x00\x01"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "bytes"]


def test_write_file_leaves_an_equal_file_untouched(tmp_path):
    path = write_file(tmp_path / "file", "same")
    before = path.stat()
    write_file(path, "same")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_file(path, "other")
    assert path.read_text() == "other"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_write_file_follows_the_umask(tmp_path, umask, mode):
    earlier = os.umask(umask)
    try:
        path = write_file(tmp_path / "file", "x")
    finally:
        os.umask(earlier)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_whole_file_keeps_the_earlier_content_after_an_exception(tmp_path):
    path = write_file(tmp_path / "file.png", "earlier")

    def interrupted():
        with whole_file(path) as draft:
            assert draft.suffix == ".png"
            draft.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "earlier"
    assert [*tmp_path.iterdir()] == [path]


def test_write_file_beyond_the_limit_of_a_file_names_the_file_and_keeps_the_earlier_content(tmp_path):
    path = write_file(tmp_path / "file", "earlier")
    earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, earlier[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            write_file(path, b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, earlier)
    assert raised.value.filename == str(path)
    assert path.read_text() == "earlier"
    assert [*tmp_path.iterdir()] == [path]


def test_check_replaceable_refuses_files_of_others(tmp_path):
    path = tmp_path / "file"
    check_replaceable(path)
    path.write_text("of a user")
    with pytest.raises(ValueError, match="exists, and foveal did not write it"):
        check_replaceable(path)
    check_replaceable(path, overwrite=True)
    write_file(path, b"\x00" * 10**6 + WRITTEN_BY.encode())
    check_replaceable(path)
    with pytest.raises(ValueError, match="is a folder; name a file"):
        check_replaceable(tmp_path, overwrite=True)


def test_output_path_reads_a_home_folder_as_a_shell_does(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert output_path("~/x/model.pt2") == Path("/home/me/x/model.pt2")
    assert output_path(Path("~")) == Path("/home/me")
    assert output_path("x/~/model~.pt2") == Path("x/~/model~.pt2")
    with pytest.raises(
        ValueError, match=r"^output='~nobody-of-this-name/x': '~nobody-of-this-name' is no home folder$"
    ):
        output_path("~nobody-of-this-name/x")
