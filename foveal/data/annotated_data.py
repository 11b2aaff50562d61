"""A folder of images with the objects of its images, as an annotation states them, at the size of the network's images.

Where an object bears the name of a class, an image's objects are those of its own class alone; where none does, all
objects count.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile
from torch import Tensor

from foveal.data.annotated_objects import AnnotatedObject, Size, Source, Transform, carry_objects
from foveal.data.annotations import hash_files, list_annotations
from foveal.data.folder import Files
from foveal.data.image_files import ORIENTATION, opened
from foveal.data.parts import Data, listed

SCORED = ("validation", "test")
Names = tuple[str | None, ...]
TURNED = range(5, 9)  # camera's orientations whose width and height are exchanged


@dataclass(frozen=True)
class ImageObjects:
    """The objects of one image: boxes (N, 4), or masks (N, H, W) in bits; and their names."""

    names: Names = ()
    cut: Names = ()  # of objects of which nothing is left after resize and crop
    boxes: Tensor | None = None
    bits: np.ndarray | None = None
    shape: tuple[int, ...] = (0, 4)

    @classmethod
    def carried(cls, objects: Sequence[AnnotatedObject], size: Size, transform: Transform) -> "ImageObjects":
        """Carry the objects of an image of a size through its transform."""
        shown, left = carry_objects(objects, size, transform)
        names, cut = (
            tuple(each.name for each, kept in zip(objects, left.tolist(), strict=True) if kept is wanted)
            for wanted in (True, False)
        )
        return cls.of(names, cut, shown[left])

    @classmethod
    def of(cls, names: Names, cut: Names, shown: Tensor) -> "ImageObjects":
        """Keep boxes (N, 4) or masks (N, H, W)."""
        masks = shown.ndim == 3
        return cls(names, cut, None if masks else shown, np.packbits(shown) if masks else None, tuple(shown.shape))

    def tensor(self) -> Tensor:
        """Return boxes (N, 4), or masks (N, H, W) of bool."""
        if self.bits is None:
            return torch.zeros(0, 4) if self.boxes is None else self.boxes
        count = int(np.prod(self.shape))
        return torch.from_numpy(np.unpackbits(self.bits, count=count).astype(bool).reshape(self.shape))

    def named(self, name: str) -> "ImageObjects":
        """Keep the objects of a name."""
        kept = [index for index, each in enumerate(self.names) if each == name]
        return ImageObjects.of((name,) * len(kept), (name,) * self.cut.count(name), self.tensor()[kept])


@dataclass(frozen=True)
class ObjectsOfImages:
    """The objects of each image of a part; an index (B,) gives a list of boxes (N, 4) or masks (N, H, W)."""

    images: Sequence[ImageObjects]

    def __getitem__(self, indices: Tensor) -> list[Tensor]:
        return [self.images[index].tensor() for index in indices.tolist()]


@dataclass(frozen=True)
class AnnotationFacts:
    """Where the objects of a data set come from, how many there are, and what is to be known of them."""

    path: str
    format: str
    sha256: str  # of the annotations of these images
    images: int  # with an object
    objects: int
    notes: tuple[str, ...]


def upright_size(file: Path) -> Size:
    """Return height and width of an image file, turned by its camera's orientation; ValueError if it has no header."""
    with opened(file) as image:
        width, height = image.size
        if isinstance(image, TiffImageFile):  # whose size some versions of Pillow state as turned already
            width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
        return (width, height) if image.getexif().get(ORIENTATION, 1) in TURNED else (height, width)


def annotate(data: Data, path: str | Path) -> tuple[Data, AnnotationFacts]:
    """Add the objects of the images of the validation and the test part.

    Args:
        data: a folder of image files.
        path: the annotations: a COCO file; a folder, or a file, of Pascal VOC, YOLO or masks.

    Raises:
        ValueError: data that is no folder of image files; annotations that are none, are broken, or belong to no image.
    """
    parts: dict[str, Files] = {name: getattr(data, name) for name in SCORED}
    if not all(isinstance(part, Files) for part in parts.values()):
        raise ValueError(f"boxes={str(path)!r}: data {data.name!r} is no folder of image files, which alone takes it")
    annotations = list_annotations(path)
    every = annotations.find(name for names in data.split.values() for name in names)
    sources = {name: every[name] for part in parts.values() for name in part.names if name in every}
    if not sources:
        raise annotations.error("all of its annotations are of images of the training part, which is not scored")
    objects = {name: each for part in parts.values() for name, each in read_objects(part, sources).items()}
    named = {name for each in objects.values() for name in each.names}
    matched = [name for name in data.classes if name in named]
    if matched:
        objects = {name: each for part in parts.values() for name, each in of_own_class(objects, part, data.classes)}
    facts = AnnotationFacts(
        str(path),
        annotations.format,
        hash_files(source.file for source in sources.values()),
        sum(bool(each.names) for each in objects.values()),
        sum(len(each.names) for each in objects.values()),
        tuple(notes_of(objects, sources, matched)),
    )
    text = "; ".join([f"{facts.format}, {facts.objects:,} objects in {facts.images:,} images", *facts.notes])
    notes = {**data.notes, "boxes": text}
    validation, test = (
        replace(part, boxes=ObjectsOfImages([objects[name] for name in part.names])) for part in parts.values()
    )
    return replace(data, validation=validation, test=test, notes=notes), facts


def objects_of_files(files: Sequence[Path], path: str | Path, transform: Transform) -> list[Tensor]:
    """Return the objects of image files, boxes (N, 4) or masks (N, H, W), in pixels of the transformed images.

    Raises:
        ValueError: no files; annotations that are none, are broken, or belong to no image.
    """
    if not files:
        raise ValueError(f"boxes={str(path)!r}: the images are no image files, which alone take it")
    sources = list_annotations(path).find(map(str, files))
    part = Files(Path(), list(map(str, files)), torch.zeros(len(files), dtype=torch.int64), transform)
    return [each.tensor() for each in read_objects(part, sources).values()]


def read_objects(part: Files, sources: Mapping[str, Source]) -> dict[str, ImageObjects]:
    """Read the objects of each image of a part, by name; none of an image that cannot be read, as it is not used."""
    found = dict.fromkeys(part.names, ImageObjects())
    for name in filter(sources.__contains__, part.names):
        try:
            size = upright_size(part.root / name)
        except ValueError:
            continue
        found[name] = ImageObjects.carried(sources[name].read(size), size, part.transform)
    return found


def of_own_class(
    objects: Mapping[str, ImageObjects], part: Files, classes: Sequence[str]
) -> Iterator[tuple[str, ImageObjects]]:
    """Yield, by the image's name, its objects that bear the name of its class."""
    for name, label in zip(part.names, part.labels.tolist(), strict=True):
        yield name, objects[name].named(classes[label])


def notes_of(
    objects: Mapping[str, ImageObjects], annotated: Mapping[str, Source], matched: Sequence[str]
) -> Iterator[str]:
    """Describe which objects do not count, and which images have none."""
    unannotated = [name for name in objects if name not in annotated]
    without = [name for name, each in objects.items() if name in annotated and not each.names]
    cut = {name: len(each.cut) for name, each in objects.items() if each.cut}
    if not matched and (others := {each for own in objects.values() for each in own.names if each is not None}):
        yield f"all objects count: none of their names is a class, as {min(others)!r}"
    if matched:
        yield f"an image's objects are those named as its class, of {listed(matched)}"
    if unannotated:
        yield f"{counted(unannotated)} without an annotation, as {unannotated[0]}"
    if without:
        yield f"{counted(without)} whose annotation holds no {'such ' if matched else ''}object, as {without[0]}"
    if cut:
        yield f"{sum(cut.values()):,} objects cut off, or below a pixel after the resize, as in {next(iter(cut))}"


def counted(names: Sequence[str]) -> str:
    return f"{len(names):,} image{'s' * (len(names) > 1)}"
