"""One preprocessing: what `look` feeds the network is what the evaluation of the test part fed it."""

import numpy as np
import pytest
import torch
from PIL import Image

import foveal
from foveal.data.load_data import load_data
from foveal.reports.look import look
from foveal.training.config import RunConfig
from foveal.training.load_model import load_model
from foveal.training.train import Trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on photographs of other sizes and shapes than the network's input."""
    root = tmp_path_factory.mktemp("photographs")
    stream = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / "all" / label).mkdir(parents=True)
        for index in range(10):
            pixels = stream.integers(0, 256, (60 + index, 90 - index, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "all" / label / f"{index}.png")
    config = RunConfig(
        model="small_cnn+se", data=f"folder:{root / 'all'}", image_size=32, epochs=1, batch_size=4, warmup_epochs=0
    )
    foveal.train(config, root / "run")
    return config, root


def inputs_of(network, call) -> torch.Tensor:
    """What the network was given while `call` ran."""
    seen = []
    handle = network.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    try:
        call()
    finally:
        handle.remove()
    return torch.cat(seen)


def test_look_feeds_the_pixels_of_the_evaluation_bitwise(run, monkeypatch):
    config, root = run
    data = load_data(config.data, image_size=config.image_size)
    trainer = Trainer(config, data)
    expected = inputs_of(trainer.model, lambda: trainer.predict(data.test))
    opened = load_model(str(root / "run"))
    monkeypatch.setattr("foveal.reports.look.load_model", lambda *_: opened)
    files = [str(root / "all" / name) for name in data.test.names]
    given = inputs_of(opened.network, lambda: look(str(root / "run"), files, most=len(files)))
    assert torch.equal(given[: len(expected)], expected)  # then Grad-CAM runs the network again
    by_name = inputs_of(opened.network, lambda: look(str(root / "run"), [config.data], most=len(files)))
    assert torch.equal(by_name[: len(expected)], expected)


def test_load_model_batches_feed_the_same_pixels(run):
    config, root = run
    opened = load_model(str(root / "run"))
    test = opened.load_data(config.data).test
    (images, labels), *_ = opened.batches(test)
    trainer = Trainer(config, load_data(config.data, image_size=config.image_size))
    expected = inputs_of(trainer.model, lambda: trainer.predict(trainer.data.test))
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    assert torch.equal(images, expected[order])
    assert torch.equal(labels, test.labels[order])


def test_preprocessing_is_kept_in_the_run(run):
    config, root = run
    assert load_model(str(root / "run")).preprocessing == load_data(config.data, image_size=32).preprocessing
