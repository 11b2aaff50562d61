"""A run whose files were changed: the facts of its checkpoints are checked before anything is loaded."""

import json
import shutil

import pytest
import torch
from helpers import write_halves
from safetensors.torch import load_file, save_file

import foveal
from foveal.training.checkpoint import read_checkpoint
from foveal.training.config import RunConfig
from foveal.training.load_model import load_model


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run with a moving average, stopped after its first epoch of two."""
    root = tmp_path_factory.mktemp("halves")
    data = f"folder:{write_halves(root / 'data', 12)}"
    config = RunConfig(data=data, image_size=16, epochs=2, batch_size=4, ema=0.9)

    def stop(line):
        raise StoppedError

    with pytest.raises(StoppedError):
        foveal.train(config, root / "run", on_epoch=stop)
    return root / "run", config


@pytest.fixture
def changed(stopped, tmp_path):
    """Return a function that copies the run with other facts and tensors in one of its checkpoints."""
    folder, config = stopped

    def change(name, alter):
        shutil.copytree(folder, tmp_path / "run")
        path = tmp_path / "run" / name
        facts, tensors = read_checkpoint(path).facts, load_file(path)
        alter(facts, tensors)
        save_file(tensors, path, {"foveal": json.dumps(facts)})
        return tmp_path / "run", config

    return change


RESUMED = {
    "no lines": (lambda facts, _: facts.pop("lines"), "states no 'lines'"),
    "lines": (
        lambda facts, _: facts.update(lines=[{"epoch": 1}]),
        "states lines, 1: the field 'train_loss' is missing",
    ),
    "line": (lambda facts, _: facts["lines"][0].update(epoch=2), "states lines, 1: epoch=2; the epochs from 1 on"),
    "optimizer": (lambda facts, _: facts.update(optimizer=[]), r"states optimizer=\[\]; a dict"),
    "state": (lambda facts, _: facts["optimizer"].update({"999.step": 1}), "states '999.step' of the optimizer"),
    "state's name": (lambda facts, _: facts["optimizer"].update(step=1), "states 'step' of the optimizer"),
    "groups": (lambda facts, _: facts["parameter_groups"].pop(), "states 1 parameter groups, and the run's optim.* 2"),
    "a group": (lambda facts, _: facts["parameter_groups"].insert(0, 3), "states 3 parameter groups"),
    "a number": (lambda facts, _: facts["parameter_groups"][0].update(lr="1"), "states lr='1' of a parameter group"),
    "params": (lambda facts, _: facts["parameter_groups"][0].update(params=1), "states params=1 of a parameter group"),
    "weight": (lambda _, tensors: tensors.pop("model.head.bias"), r"'head.bias' is missing, and \(2,\) in that of"),
    "shape": (
        lambda _, tensors: tensors.update({"model.head.bias": torch.ones(3)}),
        r"'head.bias' is \(3,\), and \(2,",
    ),
    "average": (lambda _, tensors: tensors.pop("ema.head.bias"), "'head.bias' is missing"),
    "moment": (
        lambda _, tensors: tensors.update({"optimizer.0.exp_avg": torch.ones(1)}),
        "'0.exp_avg' of the optimizer",
    ),
    "lost moment": (
        lambda _, tensors: tensors.pop("optimizer.1.exp_avg"),
        "other values of the optimizer for weight 1",
    ),
    "scaler": (lambda facts, _: facts.update(scaler={"scale": 1.0}), "states scaler={'scale': 1.0}; nothing is needed"),
    "preprocessing": (
        lambda facts, _: facts["preprocessing"].update(value_range=[0, 999]),
        r"states value_range=\(0, 999\) of its images, and those of data 'folder:.*' have now None: restore them",
    ),
    "classes": (lambda facts, _: facts.update(classes=["a"]), "states 1 classes, and its network has num_classes=2"),
}


@pytest.mark.parametrize("case", RESUMED)
def test_a_changed_checkpoint_is_not_continued(changed, case):
    alter, message = RESUMED[case]
    folder, config = changed("last.safetensors", alter)
    with pytest.raises(ValueError, match=rf"last\.safetensors' [^\n]*{message}[^\n]*$"):
        foveal.train(config, folder, resume=True)


def shape(value):
    return lambda facts, _: facts["preprocessing"].update(shape=value)


STATED = {
    "classes": (lambda facts, _: facts.update(classes=7), "states classes=7; a list of names"),
    "no names": (lambda facts, _: facts.update(classes=[1, 2]), r"states classes=\[1, 2\]; a list of names"),
    "preprocessing": (lambda facts, _: facts.update(preprocessing=[]), r"states preprocessing=\[\]; a dict"),
    "no shape": (lambda facts, _: facts["preprocessing"].pop("shape"), "states shape=None; 3 numbers from 1 to 8192"),
    "side": (shape([3, 10**6, 16]), r"states shape=\[3, 1000000, 16\]; 3 numbers from 1 to 8192"),
    "channels": (shape([1, 16, 16]), r"states mean=.*; 1 numbers"),
    "float": (shape([3, 16.0, 16]), r"states shape=\[3, 16.0, 16\]"),
    "std": (
        lambda facts, _: facts["preprocessing"].update(std=[0, 1, 1]),
        r"states std=\[0, 1, 1\]; 3 numbers from 1e-06",
    ),
    "mean": (lambda facts, _: facts["preprocessing"].update(mean=[float("nan"), 1, 1]), "states mean="),
    "crop": (
        lambda facts, _: facts["preprocessing"].update(crop_pct=1e-9),
        r"states crop_pct=\[1e-09\]; 1 numbers from 0.1",
    ),
    "filter": (
        lambda facts, _: facts["preprocessing"].update(interpolation="x"),
        "states interpolation='x'; one of bilin",
    ),
    "range": (
        lambda facts, _: facts["preprocessing"].update(value_range=[5, 5]),
        r"states value_range=\[5, 5\]; the first",
    ),
    "groups": (lambda facts, _: facts.update(groups=3), "states groups=3; a string"),
    "data": (lambda facts, _: facts.update(data=["digits"]), r"states data=\['digits'\]; a string"),
}


@pytest.mark.parametrize("case", STATED)
def test_facts_of_a_run_out_of_range_are_refused_by_name(changed, case):
    alter, message = STATED[case]
    folder, _ = changed("best.safetensors", alter)
    with pytest.raises(ValueError, match=rf"best\.safetensors' {message}[^\n]*$"):
        load_model(str(folder))


def test_an_unchanged_checkpoint_is_continued(changed):
    folder, config = changed("last.safetensors", lambda facts, tensors: None)
    assert foveal.train(config, folder, resume=True).best_epoch in (1, 2)
