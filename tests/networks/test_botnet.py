"""BotNet: attention in the last stage, image sizes."""

import pytest
import torch
from helpers import randomise_norms

import foveal
from foveal.mechanisms.self_attention import RelativeAttention


def test_botnet_attends_in_its_last_stage():
    with torch.device("meta"):
        model = foveal.create_model("botnet50")
    places = [path for path, module in model.named_modules() if isinstance(module, RelativeAttention)]
    assert places == ["layer4.0.conv2.attention", "layer4.1.conv2", "layer4.2.conv2"]
    with pytest.raises(ValueError, match=r"no pretrained weights of .botnet50."):
        foveal.create_model("botnet50", pretrained=True)


@pytest.mark.parametrize("size", [(64, 96), (70, 33)])
def test_botnet_accepts_any_image_size(size):
    model = randomise_norms(foveal.create_model("botnet50", num_classes=3)).eval()
    images = torch.rand(1, 3, *size)
    with torch.no_grad():
        plain = model(images)
        with foveal.watch(model) as seen:
            watched = model(images)
    torch.testing.assert_close(watched, plain, rtol=1e-4, atol=1e-5)
    rows, columns = (-(-side // 16) for side in size)
    assert seen["layer4.0.conv2"].values.shape == (1, 4, rows, columns, rows, columns)
    assert len(seen) == 3
