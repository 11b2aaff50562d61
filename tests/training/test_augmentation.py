"""Augmentation of batches: shares of classes, erased pixels."""

import pytest
import torch

from foveal import RunConfig
from foveal.data.load_data import load_data
from foveal.training.augmentation import BatchAugmentation
from foveal.training.trainer import Trainer

CPU = torch.device("cpu")


def augmented(config: RunConfig, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return next(BatchAugmentation(config, 3, CPU)(iter([(torch.arange(len(labels)), images, labels)]), epoch=0))


def test_without_settings_a_batch_stays_as_it_is():
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    found = augmented(RunConfig(), images, labels)
    assert found[0] is images
    assert found[1] is labels


@pytest.mark.parametrize("settings", [{"mixup": 0.8}, {"cutmix": 1.0}])
def test_labels_are_shares_of_the_two_images_in_a_pixel(settings):
    """Image i is constant, 0 or 1, and has the class of its value: its mean is the share of class 1."""
    images = torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None, None, None].expand(4, 1, 16, 16).clone()
    mixed, shares = augmented(RunConfig(**settings), images, torch.tensor([0, 1, 0, 1]))
    assert shares.shape == (4, 3)
    assert torch.allclose(shares.sum(1), torch.ones(4))
    assert torch.allclose(mixed.mean((1, 2, 3)), shares[:, 1], atol=1e-5)


def test_reprob_erases_a_rectangle():
    erased, _ = augmented(RunConfig(reprob=1.0), torch.full((2, 1, 16, 16), 7.0), torch.tensor([0, 1]))
    share = (erased != 7).float().mean((1, 2, 3))
    assert ((share >= 0.01) & (share <= 0.34)).all()


def batches_of(model: str) -> list[torch.Tensor]:
    config = RunConfig(model=model, data="digits", epochs=1, batch_size=500, mixup=0.2, cutmix=1.0, reprob=0.5)
    run, seen = Trainer(config, load_data("digits")), []
    run.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    run.train_epoch(0, lambda done, of: None)
    return seen


def test_all_networks_of_a_seed_get_the_same_augmented_images():
    plain, other = batches_of("small_cnn"), batches_of("small_cnn+se")
    assert len(plain) == 6
    assert all(map(torch.equal, plain, other))


def test_mixed_labels_are_refused_by_a_network_with_a_loss_of_its_own():
    with pytest.raises(ValueError, match="mixup and cutmix: network 'ram' computes its loss from single labels"):
        Trainer(RunConfig(model="ram", data="digits", mixup=0.2), load_data("digits"))


def test_an_odd_batch_cannot_be_mixed():
    with pytest.raises(ValueError, match="batch_size=25: must be even"):
        RunConfig(mixup=0.2, batch_size=25)
