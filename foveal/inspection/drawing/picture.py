"""Pictures: a matplotlib figure with a description, saved as a file or inserted into a page."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from foveal.core.files import WRITTEN_BY, check_replaceable, output_path, write_file
from foveal.core.names import lookup

DPI = 110
QUALITY = 85  # of WebP
SUFFIX_FIELDS = {"png": "Software", "svg": "Creator", "pdf": "Creator"}  # of a file's metadata, for its origin


class Picture:
    """Drawing that can be saved, shown by a notebook, or inserted into an HTML page.

    Attributes:
        figure: matplotlib figure.
        alt_text: description for screen readers.
    """

    def __init__(self, figure: Figure, alt_text: str):
        self.figure, self.alt_text = figure, alt_text
        self._png: bytes | None = None

    def save(self, path: str | Path) -> Path:
        """Write a PNG, SVG or PDF, by the suffix of `path`; return the path.

        Raises:
            ValueError: another suffix.
            OSError: the file cannot be written.
        """
        path = output_path(path)
        kind = path.suffix.lower().removeprefix(".")
        lookup("ending of a picture", kind, SUFFIX_FIELDS)
        return write_file(path, self.png() if kind == "png" else self.rendered(kind))

    def png(self) -> bytes:
        """Return the drawing as a PNG; it is rendered once."""
        if self._png is None:
            self._png = self.rendered("png")
        return self._png

    def rendered(self, kind: str) -> bytes:
        """Render the drawing as "png", "svg" or "pdf"."""
        buffer = io.BytesIO()
        metadata: dict[str, Any] = {SUFFIX_FIELDS[kind]: WRITTEN_BY}
        if kind != "png":
            metadata["Date" if kind == "svg" else "CreationDate"] = None  # equal files for equal drawings
        self.figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()

    def __html__(self) -> str:
        """Return an `img` element with embedded data; templates call this method by its name.

        The data are WebP: with photographs a page of PNGs has many times the bytes.
        """
        buffer = io.BytesIO()
        Image.open(io.BytesIO(self.png())).convert("RGB").save(buffer, "webp", quality=QUALITY)
        data = base64.b64encode(buffer.getvalue()).decode()
        return f'<img alt="{escape(self.alt_text)}" src="data:image/webp;base64,{data}">'

    def _repr_html_(self) -> str:
        return self.__html__()


def save_pages(pages: Sequence[Picture], path: Path, overwrite: bool = False) -> list[Path]:
    """Save pictures as `path`, `path` with "-2" after its stem, and so on; return the paths.

    Raises:
        ValueError: the suffix is not one of a picture; a file that foveal did not write, and `overwrite` is False.
    """
    paths = [path, *(path.with_stem(f"{path.stem}-{page}") for page in range(2, len(pages) + 1))]
    for each in paths:
        check_replaceable(each, overwrite)
    return [page.save(each) for page, each in zip(pages, paths, strict=True)]
