"""What several test files share."""

import pytest
import torch
from torch import nn

torch.set_num_threads(1)  # tests run side by side, a process a core


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def randomise_norms(model: nn.Module) -> nn.Module:
    """Give every BatchNorm weights and statistics of its own; a fresh timm ResNet has zeros that hide every change."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model


def plain_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
