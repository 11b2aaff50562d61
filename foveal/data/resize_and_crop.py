"""Resize and center crop of timm's evaluation, on images and on boxes: its own takes images alone."""

from collections.abc import Sequence
from math import floor
from typing import Any

from timm.data.transforms import str_to_interp_mode
from torchvision.transforms import v2


class ResizeToCover(v2.Transform):
    """Resize so that a size is covered, with the ratio of the sides kept; `size` is height and width in pixels."""

    def __init__(self, size: Sequence[int], interpolation: Any):
        super().__init__()
        self.size, self.interpolation = tuple(size), interpolation

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        height, width = v2.functional.get_size(inpt)
        ratio = min(height / self.size[0], width / self.size[1])
        return v2.functional.resize(inpt, [round(height / ratio), round(width / ratio)], self.interpolation)


def resize_and_crop(size: Sequence[int], crop_pct: float, interpolation: str) -> v2.Compose:
    """Create the transform to uint8 (C, H, W) of `size`, of which the crop keeps the share `crop_pct` of the shorter
    side. Equal to timm's `create_transform` to the pixel; before timm 1.0.31, that one ignored the interpolation where
    `size` is not square."""
    height, width = (floor(side / crop_pct) for side in size)
    mode = str_to_interp_mode(interpolation)
    resize = v2.Resize(height, mode) if height == width else ResizeToCover((height, width), mode)
    return v2.Compose([resize, v2.CenterCrop(list(size)), v2.PILToTensor()])
