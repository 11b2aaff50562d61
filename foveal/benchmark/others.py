"""What foveal is measured against: timm's and torchvision's own, and a file of somebody's code."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import nn

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
BATCH = 8
STAGES = ((256, 56), (512, 28), (1024, 14), (2048, 7))  # channels and side of a ResNet-50's maps

NOTE = ("SELayer", "SKConv", "SKNet50", "note_se_resnet50")  # a unit each, and networks of them


def read_note(path: Path | None) -> Any:
    """The study note's code, of which the names in `NOTE` are used.

    Raises:
        ValueError: there is no such file, it is not Python, or holds none of these names.
    """
    if path is None:
        return None
    spec = importlib.util.spec_from_file_location("note", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"note={str(path)!r}: a file of Python code is needed")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever somebody's code raises
        raise ValueError(f"note={str(path)!r}: {type(error).__name__}: {error}") from error
    if not any(hasattr(module, name) for name in NOTE):
        raise ValueError(f"note={str(path)!r}: it has none of {', '.join(NOTE)}")
    return module


def made(note: Any, name: str, *args: Any) -> dict[str, nn.Module]:
    """What the note's code makes under a name, by "the note"; nothing where it has no such name."""
    return {"the note": getattr(note, name)(*args)} if hasattr(note, name) else {}
