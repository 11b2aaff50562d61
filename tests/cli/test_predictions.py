"""The command `predict`, and the figures by class at the end of `train`."""

import csv

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    stream = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light", "mid")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(12):
            pixels = stream.integers(0, 60, (16, 16), dtype=np.uint8) + np.uint8((0, 180, 90)[label])
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path


def test_predict_command_after_train(folder, run_command):
    options = ("--data", "folder:photos", "--image-size", 16, "--epochs", 4, "--batch-size", 4, "--lr", 3e-3)
    code, out, err = run_command("train", "--model", "small_cnn+se", *options, "--output", "run")
    assert code == 0, err
    table = [line.split() for line in out.splitlines()]
    head = next(index for index, cells in enumerate(table) if cells[:2] == ["class", "test"])
    assert [cells[0] for cells in table[head + 1 : head + 4]] == ["dark", "light", "mid"]
    assert "expected calibration error" in out
    with Image.open(folder / "run/confusion.png") as picture:
        assert picture.size[0] > 200
    with (folder / "run/confusion.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["class", "dark", "light", "mid"]
    right = sum(int(rows[index][index]) for index in (1, 2, 3))

    code, out, err = run_command("predict", "run", "folder:photos")
    assert code == 0, err
    assert f"{right} of 6 right, accuracy" in out
    assert out.splitlines()[-1] == "predictions.csv"
    assert (folder / "predictions.csv").read_bytes() == (folder / "run/predictions.csv").read_bytes()

    code, _, err = run_command("predict", "run", "photos/dark")
    assert (code, err) == (
        2,
        "foveal: output='predictions.csv' exists; name another file, or replace it with --overwrite\n",
    )
    (folder / "photos/dark/x.txt").write_text("")
    arguments = ("predict", "run", "photos/dark", "photos/mid/1.png", "--overwrite", "--top", 2, "--pictures", "seen")
    code, out, err = run_command(*arguments)
    assert code == 0, err
    assert "left out photos/dark/x.txt: not an image by its name (.txt)" in out
    assert out.splitlines()[-2:] == ["seen", "predictions.csv"]
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 13
    assert rows[0].keys() == {"image", "predicted", "probability", "predicted_2", "probability_2"}
    pictures = sorted(path.name for path in (folder / "seen").glob("*.png"))
    assert len(pictures) == 13
    assert pictures[-1] == "000012-photos-mid-1.png"


def test_predict_command_refuses_nothing_and_unknown_data(folder, run_command):
    code, _, err = run_command("predict", "small_cnn")
    assert (code, err) == (2, "foveal: images: none named; name image files, a folder, or a data set\n")
    code, _, err = run_command("predict", "small_cnn", "digit")
    assert code == 2
    assert "unknown data 'digit'; did you mean 'digits'?" in err
    assert not (folder / "predictions.csv").exists()
