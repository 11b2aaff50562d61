"""Files of COCO's instances as multi-label data."""

import json

import pytest
import torch
from PIL import Image

import foveal

CLASSES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 9, "name": "bird"}]


def scene(folder, count=20):
    """Write images and their annotations: a cat in every second image, two dogs in every third, never a bird."""
    folder.mkdir(exist_ok=True, parents=True)
    for index in range(count):
        Image.new("L", (9, 9), index).save(folder / f"{index}.png")
    found = [{"image_id": index + 100, "category_id": 3, "bbox": [0, 0, 3, 3]} for index in range(0, count, 2)]
    found += [{"image_id": index + 100, "category_id": 7} for index in range(0, count, 3) for _ in range(2)]
    images = [{"id": index + 100, "file_name": f"{index}.png"} for index in range(count)]
    return {"images": images, "annotations": found, "categories": CLASSES}


def write(path, stated):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(stated))
    return path


@pytest.mark.parametrize(
    ("images", "file"),
    [(".", "labels.json"), ("images", "labels.json"), ("val2017", "annotations/instances_val2017.json")],
)
def test_load_data_reads_the_categories_of_a_coco_file_wherever_its_images_are(tmp_path, images, file):
    data = foveal.load_data(write(tmp_path / file, scene(tmp_path / images)), image_size=16)
    assert data.classes == ("cat", "dog")
    assert data.multi_label
    for part in (data.train, data.validation, data.test):
        assert part.labels.dtype == torch.float32
        expected = [[float(int(name[:-4]) % each == 0) for each in (2, 3)] for name in part.names]
        assert part.labels.tolist() == expected
    assert sum(map(len, (data.train, data.validation, data.test))) == 20
    assert data.skipped == {"class bird": "no class: it holds no image that can be read"}
    assert data.notes == {"images without annotations": "7, which have no class"}  # 1, 5, 7, 11, 13, 17, 19
    pixels, labels = data.train.__getitems__([0, 1])
    assert pixels.shape == (2, 3, 16, 16)
    assert torch.equal(labels, data.train.labels[:2])


def changed(**changes):
    return {"images": [{"id": 1, "file_name": "0.png"}], "annotations": [], "categories": CLASSES} | changes


BROKEN = {
    "no JSON": ("{", "cannot be read as JSON: "),
    "a list": ([], "a list; COCO's annotations are an object"),
    "captions": ({"images": [], "annotations": []}, "categories=None; COCO's is a list of objects"),
    "numbers": (changed(annotations=[1]), r"annotations=\[1\]; COCO's is a list of objects"),
    "no file name": (changed(images=[{"id": 1}]), "image 0: file_name None; a text is needed"),
    "an image twice": (
        changed(images=[{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]),
        "image 1: the id 1 of another",
    ),
    "a file twice": (
        changed(images=[{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "./a.png"}]),
        "image 1: file_name 'a.png', which number 0 has, too",
    ),
    "a class twice": (changed(categories=[CLASSES[0], {"id": 8, "name": "cat"}]), "category 1: name 'cat', which"),
    "an identifier of another kind": (
        changed(annotations=[{"image_id": 1.5, "category_id": 3}]), "annotation 0: image_id 1.5; a whole number"
    ),
    "an unknown image": (
        changed(annotations=[{"image_id": 5, "category_id": 3}]), "annotation 0: image_id 5 is the id of no image"
    ),
    "an unknown category": (
        changed(annotations=[{"image_id": 1, "category_id": 4}]), "annotation 0: category_id 4 is the id of no category"
    ),
    "no images": (changed(), "its images are in none of the folders"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_load_data_refuses_a_coco_file_in_one_line(tmp_path, case):
    stated, message = BROKEN[case]
    path = tmp_path / "labels.json"
    path.write_text(stated if isinstance(stated, str) else json.dumps(stated))
    with pytest.raises(ValueError, match=message) as refused:
        foveal.load_data(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_load_data_refuses_a_coco_file_without_a_class_or_with_images_in_two_folders(tmp_path):
    path = write(tmp_path / "labels.json", scene(tmp_path))
    scene(tmp_path / "images")
    with pytest.raises(ValueError, match=r"its images are in several folders .*, .*images"):
        foveal.load_data(path)
    stated = scene(tmp_path / "other") | {"annotations": []}
    with pytest.raises(ValueError, match="no image of a class in it"):
        foveal.load_data(write(tmp_path / "other/labels.json", stated))
    with pytest.raises(ValueError, match="there is no such file"):
        foveal.load_data("nowhere/instances.json")
