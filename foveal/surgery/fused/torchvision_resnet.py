"""torchvision's residual blocks with a fused end, if squeeze-and-excitation is attached to their last norm."""

from torch import Tensor
from torchvision.models import resnet

from foveal.surgery.fused.block_end import attached, fused, fuses
from foveal.surgery.fused.swap import original_forward


class BasicBlock(resnet.BasicBlock):
    """torchvision's basic block with a fused end instead of bn2 and its attachment, the addition and relu."""

    __prepare_scriptable__ = original_forward

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and fuses(x, *attached(self.bn2), self.relu)):
            return super().forward(x)
        c = self.conv2(self.relu(self.bn1(self.conv1(x))))
        return fused(c, *attached(self.bn2), x if self.downsample is None else self.downsample(x))


class Bottleneck(resnet.Bottleneck):
    """torchvision's bottleneck with a fused end instead of bn3 and its attachment, the addition and relu."""

    __prepare_scriptable__ = original_forward

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and fuses(x, *attached(self.bn3), self.relu)):
            return super().forward(x)
        c = self.relu(self.bn1(self.conv1(x)))
        c = self.conv3(self.relu(self.bn2(self.conv2(c))))
        return fused(c, *attached(self.bn3), x if self.downsample is None else self.downsample(x))
