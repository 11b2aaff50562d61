"""Answers and figures of `train`: exact shares, answers that are read or refused."""

import pytest
import torch
from torch import nn

from foveal.comparison.verdicts import compute_verdicts
from foveal.data.parts import Data, InMemory
from foveal.data.preprocessing import Preprocessing
from foveal.training import train as training
from foveal.training.config import RunConfig
from foveal.training.evaluate import share_right


def share(right: int, of: int) -> float:
    labels = torch.zeros(of, dtype=torch.long)
    return share_right((torch.arange(of) >= right).long(), labels)


def test_share_right_is_exact():
    """A share in single precision is wrong by up to 3e-8, which is 3e-6 percentage points in a difference."""
    for of in (3, 7, 30, 9_999):
        assert share(of - 1, of) == (of - 1) / of


def test_differences_of_one_image_in_every_seed_are_no_verdict():
    """Three times one image of thirty: errors are multiples of an image, so that equal differences show little."""
    errors = {"none": (28, 26, 14), "se": (29, 27, 15)}
    by_seed = {
        name: {seed: 100 * (1 - share(right, 30)) for seed, right in enumerate(each)} for name, each in errors.items()
    }
    assert compute_verdicts(by_seed, "none", images=30)["se"].kind in ("same", "open")


class Own(nn.Module):
    """A network whose answers `end` makes of its logits, in evaluation alone."""

    def __init__(self, end, outputs=2):
        super().__init__()
        self.head, self.end = nn.Linear(16, outputs), end

    def forward(self, x):
        logits = self.head(x.flatten(1))
        return logits if self.training else self.end(logits)


@pytest.fixture
def data():
    images = torch.randint(0, 256, (24, 1, 4, 4), dtype=torch.uint8)
    part = InMemory(images, torch.arange(24) % 2, list(map(str, range(24))))
    return Data("noise", ("left", "right"), part, part, part, Preprocessing((1, 4, 4), (0.5,), (0.3,)))


def predict(data, monkeypatch, model):
    monkeypatch.setattr("foveal.training.trainer.create_for", lambda *_, **__: model)
    config = RunConfig(data="noise", epochs=1, batch_size=10, channels_last=False)
    return training.Trainer(config, data).predict(data.test)[0]


def test_answers_in_a_mapping_are_read(data, monkeypatch):
    model = Own(lambda logits: {"logits": logits})
    answers = predict(data, monkeypatch, model)
    with torch.no_grad():
        expected = model.head(((data.test.images.float() / 255 - 0.5) / 0.3).flatten(1))
    torch.testing.assert_close(answers.logits, expected)
    assert answers.classes().tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize(
    ("end", "outputs", "message"),
    [
        (lambda logits: logits / 0, 2, "is not finite"),
        (lambda logits: logits[:, :, None], 2, "not logits"),
        (lambda logits: logits, 3, "answers for 3 classes; there are 2: left, right"),
    ],
)
def test_answers_of_other_classes_or_not_finite_are_refused(data, monkeypatch, end, outputs, message):
    with pytest.raises(ValueError, match=message):
        predict(data, monkeypatch, Own(end, outputs))
