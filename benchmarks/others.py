"""Shapes and memory formats of the benchmark: feature maps of a ResNet-50."""

import torch

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
BATCH = 8
STAGES = ((256, 56), (512, 28), (1024, 14), (2048, 7))  # channels and side of a ResNet-50's feature maps
