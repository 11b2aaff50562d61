"""Losses by the labels of the data, and class weights."""

from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch import nn

from foveal import RunConfig
from foveal.data.parts import Data, InMemory
from foveal.data.preprocessing import Preprocessing
from foveal.networks.inception import AuxiliaryInceptionV3
from foveal.training.criterion import check_loss, check_mixing, class_weights, create_criterion, positive_weights


def data_of(labels: torch.Tensor) -> Data:
    part = InMemory(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), labels, [*map(str, range(len(labels)))])
    return Data("mine", ("a", "b"), part, part, part, Preprocessing((1, 8, 8), (0.5,), (0.5,)))


ONE = data_of(torch.tensor([0, 0, 0, 1]))
SEVERAL = data_of(torch.tensor([[1.0, 1], [0, 1], [0, 0], [0, 1]]))
PLAIN = RunConfig(smoothing=0.0)


def test_class_weights_give_each_class_the_same_weight_in_all():
    """Classes 0 and 2 with 3 and 1 of four images, two classes: 4 / (2 * 3) and 4 / (2 * 1)."""
    weights = class_weights(torch.tensor([0, 0, 0, 2]), 3)
    assert weights.tolist() == pytest.approx([2 / 3, 0, 2])


def test_positive_weights_balance_images_with_a_class_and_those_without():
    labels = torch.tensor([[1.0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 0, 1]])
    assert positive_weights(labels).tolist() == pytest.approx([3, 1 / 3, 1, 1])


def test_create_criterion_is_the_cross_entropy_of_one_class():
    criterion = create_criterion(replace(PLAIN, smoothing=0.1, class_weights=True), ONE)
    assert isinstance(criterion, nn.CrossEntropyLoss)
    assert criterion.weight.tolist() == pytest.approx([2 / 3, 2])
    assert criterion.label_smoothing == 0.1


def test_create_criterion_is_a_binary_cross_entropy_of_several_classes():
    """Logits 2 and -1 with labels 1 and 0: the mean of log(1 + e^-2) and log(1 + e^-1)."""
    logits, labels = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    low, high = log(1 + exp(-2)), log(1 + exp(-1))
    assert create_criterion(PLAIN, SEVERAL)(logits, labels).item() == pytest.approx((low + high) / 2)
    smoothed = create_criterion(replace(PLAIN, smoothing=0.2), SEVERAL)(logits, labels).item()
    assert smoothed == pytest.approx((0.9 * low + 0.1 * (low + 2) + 0.9 * high + 0.1 * (high + 1)) / 2)
    weighed = create_criterion(replace(PLAIN, class_weights=True), SEVERAL)
    assert weighed(logits, labels).item() == pytest.approx((3 * low + high) / 2)


class OwnLoss(nn.Module):
    def loss(self, outputs, labels, criterion):
        return criterion(outputs, labels)


def test_check_mixing_and_check_loss_refuse_what_needs_one_class():
    mixed = RunConfig(mixup=0.2)
    check_mixing(mixed, ONE)
    with pytest.raises(ValueError, match="mixup and cutmix: data 'mine' has any number of classes for an image"):
        check_mixing(mixed, SEVERAL)
    check_loss(PLAIN, ONE, "own", OwnLoss())
    check_loss(PLAIN, SEVERAL, "plain", nn.Linear(1, 1))
    with pytest.raises(ValueError, match="network 'own' computes its loss from one class for each image; data 'mine'"):
        check_loss(PLAIN, SEVERAL, "own", OwnLoss())
    with pytest.raises(ValueError, match="mixup and cutmix: network 'own' computes its loss from single labels"):
        check_loss(mixed, ONE, "own", OwnLoss())
    network = OwnLoss()
    network.soft_labels = AuxiliaryInceptionV3.soft_labels
    for config, data in ((PLAIN, SEVERAL), (mixed, ONE)):
        check_loss(config, data, "inception_v3", network)
