"""Images that are augmented from random streams of their own."""

import random
from dataclasses import replace

import numpy as np
import torch
from helpers import write_halves

import foveal
from foveal.data.parts import Augmented, InMemory
from foveal.data.seeded import Seeded, seeded


def drawn(image):
    """An image of three numbers: from the streams of Python, numpy and torch."""
    numbers = random.random(), np.random.rand(), torch.rand(()).item()  # noqa: S311
    return torch.tensor([256 * each for each in numbers]).to(torch.uint8)[None, None]


PIXELS = torch.zeros(8, 1, 1, 3, dtype=torch.uint8), torch.arange(8), [*"abcdefgh"]
PART = Augmented(*PIXELS, transform=drawn)


def test_seeded_images_depend_on_epoch_and_index_alone():
    one, labels = Seeded(PART, 5).__getitems__([0, 3, 7])
    random.random(), np.random.rand(), torch.rand(3)  # noqa: S311
    other, _ = Seeded(PART, 5).__getitems__([7, 1, 3, 0])
    assert labels.tolist() == [0, 3, 7]
    assert torch.equal(one, other[[3, 2, 0]])
    assert len({tuple(image.flatten().tolist()) for image in other}) == 4
    assert not torch.equal(one, Seeded(PART, 6).__getitems__([0, 3, 7])[0])


def test_seeded_reading_leaves_the_random_streams_as_they_were():
    def next_numbers():
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: S311

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = next_numbers()
    random.setstate(states[0]), np.random.set_state(states[1]), torch.set_rng_state(states[2])
    Seeded(PART, 5).__getitems__([0, 1])
    assert next_numbers() == expected


def test_seeded_is_for_parts_that_augment():
    plain = InMemory(*PIXELS)
    assert seeded(plain, 1) is plain
    wrapped = seeded(PART, 1)
    assert isinstance(wrapped, Seeded)
    assert (len(wrapped), wrapped.names, wrapped.labels.tolist()) == (8, PART.names, list(range(8)))


def test_train_of_a_folder_gets_the_same_images_from_any_number_of_workers(tmp_path):
    data = f"folder:{write_halves(tmp_path / 'halves', 12)}"
    config = foveal.RunConfig(data=data, image_size=16, epochs=2, batch_size=4, lr=1e-3, aa="augmix-m3", reprob=0.3)
    for workers in (0, 2):
        foveal.train(replace(config, workers=workers), tmp_path / str(workers))
    assert (tmp_path / "0/metrics.jsonl").read_text() == (tmp_path / "2/metrics.jsonl").read_text()
