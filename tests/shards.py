"""Shards of WebDataset, written with the standard library, for tests."""

import io
import tarfile

import numpy as np
from PIL import Image


def encoded(value, size=(24, 20), kind="PNG"):
    """Encode an image of one grey value."""
    content = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(content, kind)
    return content.getvalue()


def write_shard(path, samples):
    """Write a shard; `samples` are names without a suffix, and the content by suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key, files in samples:
            for suffix, content in files.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def samples(count, first=0, classes=2):
    """Return samples of which an image's grey value is its number, and its class this number modulo `classes`."""
    numbers = range(first, first + count)
    return [(f"{n:04d}", {"png": encoded(n % 256), "cls": str(n % classes).encode()}) for n in numbers]


def grey_values(part):
    """Return the grey value of each image of a part, in its order."""
    images, _ = part.__getitems__(range(len(part)))
    return np.rint(images.float().mean((1, 2, 3)).numpy()).astype(int).tolist()
