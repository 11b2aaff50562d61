"""Bounds of packed files, of which a small one may unpack to more than a machine's memory."""

from pathlib import Path

LARGEST = 2**30  # bytes that any file may unpack to; EMNIST's largest one has half of it
RATIO = 100  # of the unpacked size to the file's, of a larger one: images are seldom packed to a tenth


def check_unpacked(path: Path, size: int) -> None:
    """Refuse a file that would unpack to far more bytes than images do.

    Raises:
        ValueError: more than `LARGEST` bytes, and more than `RATIO` times the file's.
    """
    packed = path.stat().st_size
    if size > max(LARGEST, RATIO * packed):
        raise ValueError(
            f"{path}: {packed:,} bytes that promise {size:,}; at most {RATIO} times as many are unpacked beyond "
            f"{LARGEST:,}: write a folder of image files instead"
        )
