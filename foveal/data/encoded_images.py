"""Images of a part that are decoded when they are used, from files or from where else their content is stored."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from foveal.data.image_files import File, read, why_not
from foveal.data.labels import UNREAD

BLANK = Image.new("RGB", (1, 1))


class EncodedImages:
    """A part whose images are decoded when they are used, and pass through timm's transform."""

    names: Sequence[str]
    labels: Tensor  # (N,) int64, or (N, K) float
    transform: Any
    value_range: tuple[float, float] | None

    @abstractmethod
    def file(self, index: int) -> File:
        """Return the path of an image's file, or the file's content."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images, labels = [], self.labels[torch.as_tensor(indices)]
        for place, index in enumerate(indices):
            try:
                image = read(self.file(index), self.value_range)
            except (ValueError, OSError):  # a file that is broken beyond its header, or was changed or removed since
                image, labels[place] = BLANK, UNREAD
            images.append(self.transform(image))
        return torch.stack(images), labels

    def why_unread(self, index: int) -> str:
        """Return why an image cannot be read."""
        return self.fault(index) or "it could not be read, and can be now"

    def fault(self, index: int) -> str | None:
        """Return why an image cannot be decoded, None if it can."""
        try:
            return why_not(self.file(index), self.value_range)
        except OSError as error:
            return str(error)
