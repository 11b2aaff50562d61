"""Runs of the caller's own network and data: trained, opened again by the caller's word alone."""

import sys

import own_functions
import pytest
import torch

import foveal
from foveal.reports.look import look
from foveal.training.checkpoint import load_checkpoint, save_checkpoint
from foveal.training.config import RunConfig
from foveal.training.load_model import load_model
from foveal.training.train import train

NAMES = {"model": "own_functions:net+se:at=residual", "data": "own_functions:halves"}
CONFIG = RunConfig(**NAMES, epochs=1, batch_size=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "run"
    train(CONFIG, folder)
    return folder


def test_train_continues_with_the_functions_that_the_caller_names(run):
    result = train(RunConfig(**NAMES, epochs=2, batch_size=8), run, resume=True)
    assert result.best_epoch in (1, 2)
    assert set(result.recall) == {"left", "right"}


def test_load_model_builds_the_network_of_the_callers_function(run):
    for backbone in ("own_functions:net", own_functions.net):
        opened = load_model(str(run), backbone)
        data = opened.load_data(own_functions.halves)
        assert opened.is_own("own_functions:halves")
        assert data.split == opened.split.parts
        assert [each.mechanism for each in foveal.attachments(opened.network)] == ["se"]
        stored = load_checkpoint(run, own_functions.net)[1].weights
        assert torch.equal(opened.network.head.weight, stored["head.weight"])


def test_load_model_imports_nothing_because_a_file_names_it(run, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "own_functions")
    for path in (run, run / "best.safetensors"):
        with pytest.raises(ValueError, match=r"names the function 'own_functions:net' .*--backbone package.mod"):
            load_model(str(path))
    with pytest.raises(ValueError, match="names the function"):
        look(str(run), ["digits"])
    assert "own_functions" not in sys.modules


def test_load_model_refuses_another_network_and_a_function_too_many(run, tmp_path):
    def net(num_classes, in_chans):
        return torch.nn.Sequential(torch.nn.Conv2d(in_chans, 8, 1), torch.nn.Flatten(), torch.nn.Linear(1152, 2))

    with pytest.raises(ValueError, match=r"best.safetensors' does not hold the network it names, of 4 ten"):
        load_model(str(run), net)
    save_checkpoint(tmp_path / "plain.safetensors", foveal.create_model("small_cnn"), {})
    with pytest.raises(ValueError, match="has the backbone 'small_cnn', which is no function"):
        load_model(str(tmp_path / "plain.safetensors"), own_functions.net)
    for model, backbone in (("small_cnn", own_functions.net), ("own_functions:net", None)):
        with pytest.raises(ValueError, match="no run; a function builds the network of a run"):
            load_model(model, backbone)


def test_train_keeps_the_attention_that_a_function_attaches(tmp_path):
    """It is the function's own: a checkpoint states what was attached after it alone."""

    def net(num_classes, in_chans):
        return foveal.attach(own_functions.Net(num_classes, in_chans), "eca", at="stem")

    config = RunConfig(model="mine:net+se:at=residual", data="mine:data", epochs=1, batch_size=8)
    train(config, tmp_path / "run", functions={"mine:net": net, "mine:data": own_functions.Halves})
    model, checkpoint = load_checkpoint(tmp_path / "run", net)
    assert [each["mechanism"] for each in checkpoint.facts["attachments"]] == ["se"]
    assert [each.mechanism for each in foveal.attachments(model)] == ["eca", "se"]


def test_train_refuses_a_network_before_it_writes(tmp_path):
    def net(num_classes):
        return own_functions.Net(num_classes + 1, 1)

    config = RunConfig(model="mine:net", data="own_functions:halves", epochs=1)
    with pytest.raises(ValueError, match="one logit for each of 2 classes"):
        train(config, tmp_path / "run", functions={"mine:net": net})
    assert not (tmp_path / "run").exists()
