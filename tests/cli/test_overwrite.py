"""Commands replace their own results, and nothing of the user's without --overwrite."""

import json

import pytest
from PIL import Image


@pytest.fixture
def image(tmp_path):
    Image.new("L", (28, 28), 90).save(tmp_path / "mine.png")
    return tmp_path / "mine.png"


def test_look_command_refuses_the_users_files_before_it_draws(run_command, tmp_path, image):
    (tmp_path / "seen.html").write_text("<p>mine</p>")
    code, _, err = run_command("look", "small_cnn+se", image, "--output", "seen.png")
    assert code == 2
    assert "output='seen.html' exists, and foveal did not write it; name another file" in err
    assert not (tmp_path / "seen.png").exists()
    code, _, err = run_command("look", "small_cnn+se", image, "--output", image)
    assert code == 2
    assert "mine.png' exists, and foveal did not write it" in err


@pytest.mark.parametrize(
    "suffix", ["png", *(pytest.param(each, marks=pytest.mark.exhaustive) for each in ("svg", "pdf"))]
)
def test_look_command_replaces_its_own_files(run_command, tmp_path, image, suffix):
    for _ in range(2):
        code, out, err = run_command("look", "small_cnn+se", image, "--output", f"seen.{suffix}")
        assert (code, out) == (0, f"seen.{suffix}\nseen.html\n"), err
    (tmp_path / f"seen.{suffix}").write_text("mine")
    code, _, _ = run_command("look", "small_cnn+se", image, "--output", f"seen.{suffix}")
    assert code == 2
    code, _, _ = run_command("look", "small_cnn+se", image, "--output", f"seen.{suffix}", "--overwrite")
    assert code == 0


def test_output_under_the_home_folder_is_no_folder_named_tilde(run_command, tmp_path, image, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    home.mkdir()
    (home / "seen.png").write_text("mine")
    code, _, err = run_command("look", "small_cnn+se", image, "--output=~/seen.png")
    assert code == 2
    assert f"output='{home}/seen.png' exists, and foveal did not write it" in err
    (home / "config.yaml").write_text("no: setting\n")
    code, _, err = run_command("train", "--output=~", "--resume")
    assert code == 2
    assert f"{home}/config.yaml" in err
    code, _, err = run_command("look", "small_cnn+se", image, "--output=~nobody-of-this-name/seen.png")
    assert (code, err.count("\n")) == (2, 1)
    assert "'~nobody-of-this-name' is no home folder" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "mine.png"]


def test_look_command_refuses_other_endings_and_empty_paths(run_command, image):
    code, _, err = run_command("look", "small_cnn+se", image, "--output", "seen.bmp")
    assert (code, err.count("\n")) == (2, 1)
    assert "unknown ending of a picture 'bmp'" in err
    code, _, err = run_command("look", "small_cnn+se", image, "--output", "")
    assert code == 2
    assert "--output is empty; name a path, '.' for the current folder" in err


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [pytest.param("onnx", marks=pytest.mark.exhaustive), "pt2"])
def test_export_command_replaces_its_own_file_alone(run_command, tmp_path, suffix):
    command = ("export", "small_cnn+se", "--output", f"model.{suffix}")
    for _ in range(2):
        assert run_command(*command)[0] == 0
    (tmp_path / f"model.{suffix}").write_text("mine")
    code, _, err = run_command(*command)
    assert (code, (tmp_path / f"model.{suffix}").read_text()) == (2, "mine")
    assert "foveal did not write it" in err


@pytest.mark.slow
def test_audit_command_writes_facts_and_times_apart(run_command, tmp_path):
    for _ in range(2):
        code, _, err = run_command("audit", "small_cnn+se", "digits", "--output", "mine.json")
        assert code in (0, 1), err
    held, times = (json.loads((tmp_path / name).read_text()) for name in ("mine.json", "mine-times.json"))
    assert list(times["share_of_time"]) == held["places"]
    (tmp_path / "mine.json").write_text("mine")
    assert run_command("audit", "small_cnn+se", "digits", "--output", "mine.json")[0] == 2
