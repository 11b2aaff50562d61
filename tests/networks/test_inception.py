"""SE-Inception: weights, attention, the auxiliary head."""

import pytest
import timm
import torch
import torch.distributed
import torchvision
from helpers import randomise_norms
from torch import nn

import foveal


def inception_sources():
    yield "timm", timm.create_model("inception_v3")
    yield "torchvision", torchvision.models.inception_v3(init_weights=False)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_load_weights_of_inception_into_se_inception(source):
    theirs = randomise_norms(dict(inception_sources())[source]).eval()
    ours = foveal.create_model("se_inception_v3", identity=True).eval()
    foveal.load_weights(ours, theirs.state_dict())
    x = torch.randn(1, 3, 75, 75)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
    plain = foveal.create_model("se_inception_v3")
    with pytest.warns(UserWarning, match="contain no attention: se keeps"):
        foveal.load_weights(plain, theirs.state_dict())


def test_se_inception_modules_are_called_and_train():
    model = foveal.create_model("se_inception_v3", num_classes=5)
    with foveal.watch(model) as seen:
        model(torch.rand(2, 3, 75, 75)).sum().backward()
    assert len(seen) == 11
    assert not seen.unseen
    assert seen.paths()[0] == "Mixed_5b.se"
    widths = [record.values.shape[1] for record in seen]
    assert widths == [256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048]
    for record in seen:
        assert model.get_submodule(record.path).fc1.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_auxiliary_head_runs_in_training_alone_on_large_images():
    model = foveal.create_model("se_inception_v3", num_classes=5)
    logits, auxiliary = model(torch.rand(2, 3, 299, 299))
    assert logits.shape == auxiliary.shape == (2, 5)
    loss = model.loss((logits, auxiliary), torch.tensor([0, 1]), nn.functional.cross_entropy)
    plain = nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    assert loss > plain
    assert model(torch.rand(2, 3, 150, 150)).shape == (2, 5)
    assert model.eval()(torch.rand(2, 3, 299, 299)).shape == (2, 5)


@pytest.mark.slow
def test_se_inception_trains_in_distributed_data_parallel_on_small_images():
    """Its auxiliary head is not run there; DistributedDataParallel would raise in the second step."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model = foveal.create_model("se_inception_v3", num_classes=3)
        parallel = nn.parallel.DistributedDataParallel(model)
        for _ in range(2):
            parallel(torch.rand(2, 3, 96, 96)).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert not any(weight.grad.any() for weight in model.AuxLogits.parameters())
    assert all(weight.grad.any() for weight in model.Mixed_7c.se.parameters())
