"""torchvision's residual blocks with a fused end, where squeeze-and-excitation was attached to their last norm."""

from torch import Tensor, nn
from torchvision.models import resnet

from foveal.fast.conditions import bypassable
from foveal.fast.tails import fused, fuses
from foveal.hosts import Attached


class BasicBlock(resnet.BasicBlock):
    """torchvision's, with a fused end in the place of bn2 and what was attached to it, the addition and relu."""

    def forward(self, x: Tensor) -> Tensor:
        norm, se = attached(self.bn2)
        if not fuses(x, norm, se, self.relu):
            return super().forward(x)
        c = self.conv2(self.relu(self.bn1(self.conv1(x))))
        return fused(c, norm, se, x if self.downsample is None else self.downsample(x))


class Bottleneck(resnet.Bottleneck):
    """torchvision's, with a fused end in the place of bn3 and what was attached to it, the addition and relu."""

    def forward(self, x: Tensor) -> Tensor:
        norm, se = attached(self.bn3)
        if not fuses(x, norm, se, self.relu):
            return super().forward(x)
        c = self.relu(self.bn1(self.conv1(x)))
        c = self.conv3(self.relu(self.bn2(self.conv2(c))))
        return fused(c, norm, se, x if self.downsample is None else self.downsample(x))


def attached(norm: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """A norm and the one mechanism that was attached after it; the module itself where it is something else."""
    parts = [*norm.children()]
    if not bypassable(norm, Attached) or len(parts) != 2 or parts[0] is not getattr(norm, "host", None):
        return norm, None
    return parts[0], parts[1]
