"""The subcommands on shards of WebDataset."""

import csv
import json

import pytest
from shards import encoded, write_shard

OPTIONS = ("--data", "wds/data", "--image-size", 16, "--batch-size", 4, "--lr", 3e-3)


@pytest.fixture
def root(tmp_path):
    """Dark and light images in two training shards, the second truncated, and one shard for each other part."""

    def images(count, first):
        return [
            (f"{number:03d}", {"png": encoded((20, 220)[number % 2] + number % 9), "cls": str(number % 2).encode()})
            for number in range(first, first + count)
        ]

    for name, count in (("train-0", 16), ("train-1", 16), ("val-0", 6), ("test-0", 8)):
        write_shard(tmp_path / f"data/{name}.tar", images(count, 100 * len(name)))
    path = tmp_path / "data/train-1.tar"
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"712.png") + 600])
    return tmp_path


TRAIN = ("train", "--model", "small_cnn+se", *OPTIONS, "--epochs", 1, "--output", "run")


def test_train_command_reads_shards_and_predict_agrees(root, run_command):
    code, out, err = run_command(*TRAIN, "--workers", 2)
    assert code == 0, err
    assert "left out train-1.tar: truncated after" in out
    assert "12 images were found before" in out
    stored = json.loads((root / "run/split.json").read_text())
    assert len(stored["train"]) == 28
    assert stored["test"] == [f"test-0.tar/{number}.png" for number in range(600, 608)]
    with (root / "run/predictions.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == stored["test"]
    code, _, err = run_command("predict", "run", f"wds/{root}/data")
    assert code == 0, err
    assert (root / "predictions.csv").read_bytes() == (root / "run/predictions.csv").read_bytes()


@pytest.mark.exhaustive
def test_every_subcommand_reads_shards(root, run_command):
    code, out, err = run_command("check-data", "wds/data", "--image-size", 16)
    assert code == 0, err
    assert "left out train-1.tar: truncated after" in out
    code, _, err = run_command(*TRAIN)
    assert code == 0, err
    for verb in ("look", "audit", "score"):
        code, out, err = run_command(verb, "run", "wds/data")
        assert code == 0, (verb, out, err)
    assert (root / "look.png").is_file()
    assert (root / "run/score.json").is_file()
    code, out, err = run_command("compare", "none", "se", *OPTIONS, "--epochs", 1, "--seeds", 1, "--output", "pair")
    assert code == 0, err
    splits = {path.read_bytes() for path in (root / "pair").rglob("split.json")}
    assert len(splits) == 1
    assert "failed" not in out
