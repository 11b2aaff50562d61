"""`train` against plain torch, PIL and a count of `predictions.csv`, for folders of any classes: equal, or refused."""

import csv
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

import foveal
from foveal.core.names import as_cell
from foveal.training.config import RunConfig

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # of ImageNet
NAMES = ["b", "B", "a", "2", "10", "None", "nan", "é", "a b", "cat,dog", 'the "x"', "=1", " ", "-", "a\tb", "0.5"]
PARTS = ("train", "val", "test")
Counts = dict[tuple[str, str], int]  # of images by part ("" where they are not split) and class


def write_images(root: Path, counts: Counts, mode: str) -> None:
    """Write noisy images of 20 pixels a side, whose colour depends on the class."""
    stream = np.random.default_rng(0)
    for part, name in counts:
        colour = stream.integers(40, 216, (1, 1, 3))
        for index in range(counts[part, name]):
            path = root / part / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = colour + stream.integers(-40, 40, (20, 20, 3))
            Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path)


def is_readable(counts: Counts) -> bool:
    """Return True for two classes or more, and images in every part; a ready training part has all classes, alone none.

    A class with three images reaches each part.
    """
    if all(part == "" for part, _ in counts):
        return sum(map(bool, counts.values())) > 1 and max(counts.values()) > 2
    found = {part: {name for of, name in counts if of == part and counts[of, name]} for part in PARTS}
    return all(found.values()) and found["train"] == found["val"] | found["test"] and len(found["train"]) > 1


def probabilities(run: Path, data: Path, names: list[str], model: str, classes: int) -> torch.Tensor:
    """Class probabilities (N, classes) by the stored weights, of files that PIL reads, resizes and crops."""
    network = foveal.create_model(model, num_classes=classes).eval()
    weights = load_file(run / "best.safetensors")
    network.load_state_dict({name.removeprefix("model."): weight for name, weight in weights.items()})
    pictures = [Image.open(data / name).convert("RGB").resize((18, 18), Image.Resampling.BILINEAR) for name in names]
    pixels = torch.stack([torch.from_numpy(np.array(each.crop((1, 1, 17, 17)))) for each in pictures])
    with torch.no_grad():
        return network(((pixels / 255 - MEAN) / STD).permute(0, 3, 1, 2)).softmax(1)


def figures_of(rows: list[dict[str, str]], classes: list[str]) -> tuple[float, float | None, dict[str, float], list]:
    """Accuracy, balanced accuracy, recall by class and absent classes of predictions."""
    right = {name: [row["predicted"] == name for row in rows if row["class"] == name] for name in classes}
    recall = {name: sum(each) / len(each) for name, each in right.items() if each}
    absent = [name for name in classes if not right[name]]
    accuracy = sum(map(sum, right.values())) / len(rows)
    return accuracy, None if absent else math.fsum(recall.values()) / len(classes), recall, absent


def check_run(run: Path, data: Path, config: RunConfig, result) -> None:
    """Compare the figures and the files of a run with those that are computed here."""
    split = json.loads((run / "split.json").read_text())
    class_of = {name: name.split("/")[-2] for part in ("train", "validation", "test") for name in split[part]}
    classes = sorted(set(class_of.values()))
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [as_cell(name) for name in split["test"]]
    assert [row["class"] for row in rows] == [as_cell(class_of[name]) for name in split["test"]]
    name_of = {as_cell(name): name for name in classes}
    rows = [{**row, **{key: name_of[row[key]] for key in ("class", "predicted")}} for row in rows]
    assert (result.accuracy, result.balanced_accuracy, result.recall, result.absent) == figures_of(rows, classes)
    for row, each in zip(rows, probabilities(run, data, split["test"], config.model, len(classes)), strict=True):
        chosen = each[classes.index(row["predicted"])].item()
        assert chosen == pytest.approx(each.max().item(), abs=1e-4)  # the class of the largest, to rounding
        assert chosen == pytest.approx(float(row["probability"]), abs=1e-4)
    found = probabilities(run, data, split["validation"], config.model, len(classes))
    right = [classes[at] == class_of[name] for at, name in zip(found.argmax(1), split["validation"], strict=True)]
    clear = (found.topk(2).values.diff() < -1e-4).all()
    line, last = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert not clear or line["validation_accuracy"] == pytest.approx(sum(right) / len(right))
    assert last["test"]["accuracy"] == result.accuracy
    assert foveal.train(config, run, resume=True) == result


@st.composite
def cases(draw):
    names = draw(
        st.lists(st.sampled_from(NAMES), min_size=draw(st.sampled_from([1, 2, 2, 2])), max_size=4, unique=True)
    )
    if draw(st.booleans()):
        counts = {("", name): draw(st.integers(0, 9)) for name in names}
    else:
        some = st.sampled_from([1, 2, 2, 3, 3, 4, 4, 0])
        counts = {(part, name): draw(some) for part in draw(st.permutations(PARTS)) for name in names}
    options = {
        "model": draw(st.sampled_from(["small_cnn", "small_cnn+se"])),
        "ema": draw(st.sampled_from([0.0, 0.9])),
        "batch_size": draw(st.integers(2, 5)),
        "seed": draw(st.integers(0, 9)),
    }
    return counts, draw(st.sampled_from(["RGB", "L", "P", "RGBA", "1"])), options


@pytest.mark.exhaustive
@settings(max_examples=30, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(cases())
def test_train_gives_the_reference_figures_or_refuses(case):
    counts, mode, options = case
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "data", Path(folder) / "run"
        write_images(data, counts, mode)
        config = RunConfig(data=f"folder:{data}", image_size=16, epochs=1, lr=5e-3, **options)
        if is_readable(counts):
            check_run(run, data, config, foveal.train(config, run))
            return
        with pytest.raises(ValueError, match="data ") as raised:
            foveal.train(config, run)
        assert "\n" not in str(raised.value)
