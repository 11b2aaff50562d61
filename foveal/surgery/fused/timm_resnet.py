"""timm's residual blocks with a fused end, if they carry a gate that depends on the means of its map."""

from timm.models import resnet
from torch import Tensor

from foveal.surgery.fused.block_end import fused, fuses
from foveal.surgery.fused.swap import original_forward


class BasicBlock(resnet.BasicBlock):
    """timm's basic block with a fused end instead of bn2, se, drop_path, the addition and act2."""

    __prepare_scriptable__ = original_forward

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and fuses(x, self.bn2, self.se, self.act2, self.drop_path)):
            return super().forward(x)
        c = self.aa(self.act1(self.drop_block(self.bn1(self.conv1(x)))))
        c = self.conv2(c)
        shortcut = x if self.downsample is None else self.downsample(x)
        return fused(c, self.bn2, self.se, shortcut, self.drop_path)


class Bottleneck(resnet.Bottleneck):
    """timm's bottleneck with a fused end instead of bn3, se, drop_path, the addition and act3."""

    __prepare_scriptable__ = original_forward

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and fuses(x, self.bn3, self.se, self.act3, self.drop_path)):
            return super().forward(x)
        c = self.act1(self.bn1(self.conv1(x)))
        c = self.aa(self.act2(self.drop_block(self.bn2(self.conv2(c)))))
        c = self.conv3(c)
        shortcut = x if self.downsample is None else self.downsample(x)
        return fused(c, self.bn3, self.se, shortcut, self.drop_path)
