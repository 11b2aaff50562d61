"""A file of COCO's instances (Lin et al., 2014): the classes of each image are the categories of its annotations.

    {"images": [{"id": 1, "file_name": "1.jpg"}],
     "annotations": [{"image_id": 1, "category_id": 7}],
     "categories": [{"id": 7, "name": "train"}]}

An image without annotations has no class, and a category without an image is left out. The images are in the file's
folder, in the folder `images` beside it, or in that of COCO's own layout: `annotations/instances_NAME.json` beside
`NAME`. Boxes and masks are not read.
"""

from collections.abc import Sequence
from pathlib import Path

from foveal.data.coco_objects import by_id, entries, key, load
from foveal.data.file_tree import Folder
from foveal.data.labels import Label
from foveal.data.layouts import Listing, add_file
from foveal.data.parts import listed

INSTANCES = "instances_"
IMAGES = "images"


def list_coco(path: Path) -> Listing:
    """List the images of a COCO file with their classes.

    Raises:
        ValueError: no such file, no JSON, or not of this form, with the place in it; an identifier, a file or a name of
            a category that is there twice; an annotation of an unknown image or category; images that are in none of
            the folders, or in several.
    """
    if not path.is_file():
        raise ValueError(f"data {str(path)!r}: there is no such file")
    whole = load(path)
    images, annotations, categories = (entries(whole, part, path) for part in ("images", "annotations", "categories"))
    files, names = by_id(f"{path}: image", images, "file_name"), by_id(f"{path}: category", categories, "name")
    classes: dict[int | str, set[str]] = {each: set() for each in files}
    for number, annotation in enumerate(annotations):
        where = f"{path}: annotation {number}"
        image, category = (key(annotation, name, where) for name in ("image_id", "category_id"))
        if image not in files or category not in names:
            unknown = f"image_id {image!r:.80}" if image not in files else f"category_id {category!r:.80}"
            raise ValueError(f"{where}: {unknown} is the id of no {'image' if image not in files else 'category'}")
        classes[image].add(names[category])
    listing = Listing(Folder.at(image_folder(path, list(files.values()))), {"all": []}, set(names.values()))
    for each, name in files.items():
        label: Label = frozenset(classes[each])
        add_file(listing, name, label, "all")
    bare = sum(not each for each in classes.values())
    listing.notes |= {"images without annotations": f"{bare:,}, which have no class"} if bare else {}
    return listing


def image_folder(path: Path, names: Sequence[str]) -> Path:
    """Return the one folder of those that may hold the images that holds any of them."""
    layout = path.parent.parent / path.stem.removeprefix(INSTANCES)
    folders = [path.parent, path.parent / IMAGES, *([layout] if path.stem.startswith(INSTANCES) else [])]
    found = [each for each in folders if any((each / name).is_file() for name in names)]
    if len(found) != 1:
        where = "several folders" if found else "none of the folders"
        raise ValueError(f"{path}: its images are in {where} {listed(map(str, found or folders))}")
    return found[0]
