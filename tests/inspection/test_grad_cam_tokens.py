"""Grad-CAM on tokens, and on a map after a functional ReLU, against the same written out with autograd."""

import pytest
import timm
import torch
import torchvision
from helpers import vary_weights
from torch import nn
from torch.nn import functional as F

import foveal


def by_hand(model, images, module, read):
    """pytorch-grad-cam: the mean gradient of each channel over the map weighs the channels; then a ReLU."""
    kept = []

    def keep(_, __, out):
        kept.append(out)
        out.retain_grad()

    handle = module.register_forward_hook(keep)
    model(images)[:, 1].sum().backward()
    handle.remove()
    maps, gradient = read(kept[-1].detach()), read(kept[-1].grad)
    return (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu()


@pytest.mark.parametrize("distilled", [False, True])
def test_class_activation_of_a_vision_transformer_is_that_of_its_last_norm(distilled):
    make = timm.models.deit.VisionTransformerDistilled if distilled else timm.models.VisionTransformer
    model = vary_weights(make(img_size=(32, 48), patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3))
    images, prefix = torch.rand(2, 3, 32, 48), 1 + distilled
    record = foveal.class_activation(model, images, targets=1)
    assert record.path == "blocks.1.norm1"
    assert record.values.shape == (2, 4, 6)
    expected = by_hand(model, images, model.blocks[1].norm1, lambda each: each[:, prefix:].mT.unflatten(-1, (4, 6)))
    torch.testing.assert_close(record.values, expected)
    torch.testing.assert_close(
        foveal.class_activation(model, images, at=model.blocks[1].norm1, targets=1).values, expected
    )


def test_class_activation_of_swin():
    model = torchvision.models.SwinTransformer([4, 4], 12, [2], [3], [4, 4], num_classes=3)
    vary_weights(model)
    images = torch.rand(2, 3, 32, 32)
    record = foveal.class_activation(model, images, targets=1)
    module = model.get_submodule(record.path)
    expected = by_hand(model, images, module, lambda each: each if each.shape[1] == 12 else each.movedim(3, 1))
    torch.testing.assert_close(record.values, expected)


def cams_of_others(model, images, module, reshape, target):
    """Maps of pytorch-grad-cam for a class, each resized to the image and scaled to 0 to 1."""
    library = pytest.importorskip("pytorch_grad_cam", reason="the extra third-party is not installed")
    targets = [library.utils.model_targets.ClassifierOutputTarget(target)] * len(images)
    with library.GradCAM(model, [module], reshape) as cam:
        return torch.from_numpy(cam(images, targets))


def scaled(record, images):
    """A Record's maps, scaled, resized and scaled in the same way."""
    scale = pytest.importorskip("pytorch_grad_cam.utils.image").scale_cam_image
    return torch.from_numpy(scale(scale(record.values.numpy(), (images.shape[3], images.shape[2]))))


TIMM = {
    "vit": ("vit_tiny_patch16_224", {"depth": 2}, "blocks.1.norm1", 1),
    "deit": ("deit_tiny_distilled_patch16_224", {"depth": 2}, "blocks.1.norm1", 2),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"depths": (1, 1, 1, 1), "embed_dim": 24},
        "layers.3.blocks.0.norm1",
        None,
    ),
}


@pytest.mark.parametrize("name", TIMM)
def test_class_activation_equals_pytorch_grad_cam(name):
    """With the reshape that its documentation gives for each."""

    def reshape(tokens, prefix):
        return tokens.permute(0, 3, 1, 2) if prefix is None else tokens[:, prefix:].mT.unflatten(-1, (14, 14))

    model, options, path, prefix = TIMM[name]
    model, images = vary_weights(timm.create_model(model, num_classes=3, **options)), torch.rand(2, 3, 224, 224)
    spread = 0.0
    for target in range(3):
        expected = cams_of_others(model, images, model.get_submodule(path), lambda each: reshape(each, prefix), target)
        found = foveal.class_activation(model, images, at=path, targets=target)
        torch.testing.assert_close(scaled(found, images), expected, atol=2e-5, rtol=0)
        spread += expected.std()
    assert spread > 0.01


def test_class_activation_of_densenet_includes_the_functional_relu():
    model = vary_weights(torchvision.models.DenseNet(8, (1, 1), 8, num_classes=3))
    images = torch.rand(2, 3, 64, 64)
    record = foveal.class_activation(model, images, targets=1)
    assert record.path == "features"
    maps = F.relu(model.features(images).detach()).requires_grad_()
    model.classifier(maps.mean((2, 3)))[:, 1].sum().backward()
    expected = (maps.grad.mean((2, 3), keepdim=True) * maps).sum(1).relu()
    torch.testing.assert_close(record.values, expected.detach())


def test_class_activation_reads_an_answer_by_a_function():
    class Answers(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return {"boxes": None, "scores": self.conv(x).mean((2, 3))}

    model, images = Answers().eval(), torch.rand(2, 3, 9, 9)
    with pytest.raises(ValueError, match="model: it answers a dict with"):
        foveal.class_activation(model, images)
    record = foveal.class_activation(model, images, targets=2, answer=lambda out: out["scores"])
    torch.testing.assert_close(record.values, model.conv(images)[:, 2].detach().relu() / 49)
