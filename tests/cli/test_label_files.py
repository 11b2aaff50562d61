"""The commands on image files that a file lists with their labels."""

import csv

from helpers import write_halves
from multi_label import write_bars


def write_labels(folder, rows, head=("image", "label", "group")):
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def test_train_command_takes_a_csv_file_and_predict_reads_its_split_again(run_command, tmp_path):
    write_halves(tmp_path / "photos", 40)
    rows = [[f"photos/{side}/{index}.png", side, index // 2] for side in ("left", "right") for index in range(40)]
    write_labels(tmp_path, rows)
    code, out, err = run_command(
        "train", "--model", "small_cnn", "--data", "labels.csv", "--image-size", 16, "--epochs", 4, "--batch-size", 8,
        "--output", "run",
    )  # fmt: skip
    assert code == 0, err
    accuracy = next(line for line in out.splitlines() if line.startswith("test accuracy")).split()[2]
    code, out, err = run_command("predict", "run", "labels.csv", "--output", "again.csv")
    assert code == 0, err
    assert f"accuracy {accuracy} %" in out
    one, other = (list(csv.DictReader((tmp_path / name).open())) for name in ("run/predictions.csv", "again.csv"))
    assert one == other
    truth = {row[0]: row[1] for row in rows}
    assert all(truth[row["image"]] == row["class"] for row in one)
    write_labels(tmp_path, rows[1:])
    code, _, err = run_command("predict", "run", "labels.csv", "--output", "third.csv")
    assert code == 2
    assert err.startswith("foveal: data 'labels.csv': its images are not those that the run was trained on: 1 removed")


def test_check_data_command_prints_the_classes_of_a_csv_file(run_command, tmp_path):
    write_halves(tmp_path / "photos", 10)
    rows = [[f"photos/{side}/{index}.png", side, 0.5] for side in ("left", "right") for index in range(10)]
    write_labels(tmp_path, [*rows, ["photos/none.png", "left", 0.5]], ("image", "label", "area"))
    code, out, err = run_command("check-data", "labels.csv", "--image-size", 32)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[:2] == ["left out photos/none.png: no such file", "columns: area not read"]
    assert [line.split() for line in lines[2:6]] == [
        ["class", "training", "validation", "test"],
        ["left", "7", "2", "1"],
        ["right", "7", "2", "1"],
        ["all", "14", "4", "2"],
    ]


def test_commands_on_multi_label_data_print_its_figures_and_refuse_what_needs_one_class(run_command, tmp_path):
    write_bars(tmp_path, 60)
    code, out, err = run_command("check-data", "labels.csv", "--image-size", 16)
    assert code == 0, err
    assert out.splitlines()[-1].startswith("any number of classes for an image: in training 1.")
    code, out, err = run_command(
        "train", "--model", "small_cnn+se", "--data", "labels.csv", "--image-size", 16, "--epochs", 2,
        "--batch-size", 8, "--output", "run",
    )  # fmt: skip
    assert code == 0, err
    printed = out.splitlines()
    assert sum("validation mAP" in line for line in printed) == 2
    head = next(line.split() for line in printed if line.split()[:1] == ["class"])
    assert head == ["class", "test", "images", "precision", "recall", "F1", "AP"]
    assert "no confusion matrix: an image has any number of classes" in printed
    figure = next(line for line in printed if line.startswith("test mAP")).split()[2]
    code, out, err = run_command("predict", "run", "labels.csv")
    assert (code, f"9 images, mAP {figure} %" in out) == (0, True), err
    code, out, err = run_command("look", "run", "labels.csv")
    assert code == 0, err
    code, _, err = run_command("audit", "run", "labels.csv")
    assert (code in (0, 1), err) == (True, "")
    code, _, err = run_command("score", "run", "labels.csv")
    assert (code, err) == (2, "foveal: data 'labels.csv': any number of classes for each image; score needs one\n")
    code, _, err = run_command("predict", "run", "labels.csv", "--top", 2, "--output", "top.csv")
    assert (code, err.startswith("foveal: top=2: a line of a multi-label network holds every class")) == (2, True)
