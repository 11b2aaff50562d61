"""Annotations of Pascal VOC: an XML file for each image, with the box of each object.

Coordinates are whole pixels from 1, the last one included: xmin = 1 and xmax = W are the whole width. Tools that count
from 0 differ by a pixel. Files with a document type, and so with entities, are refused.
"""

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from foveal.core.names import one_line
from foveal.data.annotated_objects import AnnotatedObject, Size, Source, check_stated_size, read_number, within

CORNERS = ("xmin", "ymin", "xmax", "ymax")
MOST = 10_000_000  # bytes of a file


def source(path: Path) -> Source:
    """Return the source of an image's objects."""
    return Source(path, lambda size: read_objects(path, size))


def read_objects(path: Path, size: Size) -> list[AnnotatedObject]:
    """Read the objects of an image of a size.

    Raises:
        ValueError: a file that is no annotation of Pascal VOC, or that of another image; a box beyond the image.
    """
    root = parse(path)
    if root.tag != "annotation":
        raise ValueError(f"{path}: its root is {root.tag!r:.80}; Pascal VOC's is 'annotation'")
    check_image(root, path, size)
    objects = []
    for number, found in enumerate(root.findall("object")):
        where = f"{path}: object {number}"
        name = (found.findtext("name") or "").strip()
        if not name:
            raise ValueError(f"{where}: it has no name")
        texts = [found.findtext(f"bndbox/{corner}") for corner in CORNERS]
        x0, y0, x1, y1 = (read_number(text, f"{where}: {each}") for each, text in zip(CORNERS, texts, strict=True))
        objects.append(AnnotatedObject(name, within((x0 - 1, y0 - 1, x1, y1), size, where)))
    return objects


def check_image(root: Element, path: Path, size: Size) -> None:
    """Refuse the annotation of an image of another name or size; a size of 0 and a missing one state nothing."""
    named = (root.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
    if named and path.stem not in (named, Path(named).stem):
        raise ValueError(f"{path}: its filename is {named!r:.80}, of another image; correct it, or rename the file")
    texts = root.findtext("size/height"), root.findtext("size/width")
    stated = [read_number(text, f"{path}: size") for text in texts if text is not None]
    if len(stated) == 2 and all(stated):
        check_stated_size((int(stated[0]), int(stated[1])), size, str(path))


def parse(path: Path) -> Element:
    """Parse an XML file without entities; ValueError for another file."""
    if (length := path.stat().st_size) > MOST:
        raise ValueError(f"{path}: {length:,} bytes; at most {MOST:,} are read")
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*declaration: object) -> None:
        raise ValueError("it declares a document type or entities, which are not read")

    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"{path}: cannot be read as XML: {one_line(error):.200}") from error
