"""Broken annotations are refused in one line that names the file; random changes never raise anything else."""

import json

import numpy as np
import pytest
from annotated_scenes import FORMATS, SIZE, coco, write_yolo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveal.data.annotations import list_annotations


def refused(path, message, size=SIZE):
    with pytest.raises(ValueError, match=message) as error:
        list_annotations(path).find(["scene.jpg"])["scene.jpg"].read(size)
    assert "\n" not in str(error.value)
    return str(error.value)


BOMB = '<!DOCTYPE a [<!ENTITY b "cccc"><!ENTITY d "&b;&b;&b;">]><annotation><folder>&d;</folder></annotation>'
OUTSIDE = '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation></annotation>'
ONE = "<annotation><object><name>cat</name><bndbox>{}</bndbox></object></annotation>"
PLACED = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as XML: no element found"),
        ("<annotation>", "cannot be read as XML"),
        ("<html></html>", "its root is 'html'; Pascal VOC's is 'annotation'"),
        (BOMB, "it declares a document type or entities, which are not read"),
        (OUTSIDE, "it declares a document type"),
        (ONE.format(""), "object 0: xmin: None; a number is needed"),
        (ONE.format(PLACED.format(1, 2, "nan", 4)), "object 0: xmax: 'nan'; a number is needed"),
        (ONE.format(PLACED.format(1, 2, "1e99", 4)), "'1e99'; a number is needed"),
        (ONE.format(PLACED.format(9, 2, 8, 4)), r"object 0: box 8, 1, 8, 4 .* none within an image of 80x48 pixels"),
        (ONE.format(PLACED.format(1, 1, 82, 48)), "box 0, 0, 82, 48"),
        (ONE.format(PLACED.format(-1, 1, 8, 8)), "box -2, 0, 8, 8"),
        (ONE.format(PLACED.format(1, 1, 8, 8)).replace("cat", " "), "object 0: it has no name"),
        ("<annotation><filename>other.jpg</filename></annotation>", "its filename is 'other.jpg', of another image"),
        (
            "<annotation><size><width>48</width><height>80</height></size></annotation>",
            "of an image of 48x80 pixels, and the image has 80x48",
        ),
    ],
)
def test_voc_refuses(text, message, tmp_path):
    (tmp_path / "scene.xml").write_text(text)
    assert str(tmp_path / "scene.xml") in refused(tmp_path, message)


def test_voc_counts_pixels_from_one(tmp_path):
    (tmp_path / "scene.xml").write_text(ONE.format(PLACED.format(5, 6, 5, 6)))  # the two 1-pixel boxes of BCCD
    (found,) = list_annotations(tmp_path).find(["scene.jpg"])["scene.jpg"].read(SIZE)
    assert found.box == (4, 5, 5, 6)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", "line 2: 4 values"),
        ("0 0.5 0.5 0.2 0.2 0.99", "line 2: 6 values; a class and four numbers, or the corners of a polygon"),
        ("0.5 0.5 0.5 0.2 0.2", "class '0.5'; a class from 0 to 1 is needed"),
        ("2 0.5 0.5 0.2 0.2", "class '2'; a class from 0 to 1 is needed"),
        ("-1 0.5 0.5 0.2 0.2", "class '-1'"),
        ("cat 0.5 0.5 0.2 0.2", "line 2: 'cat'; a number is needed"),
        ("0 40 24 10 10", "box 2800, .* is none within an image of 80x48 pixels"),
        ("0 0.5 0.5 0 0.2", "none within an image"),
        ("0 0.1 0.1 0.9 0.1 1.5 0.9", "none within an image"),
        ("0 0.1 0.1 0.9 0.1 0.9 0.1 0.1 0.1", "none within an image"),  # a line
    ],
)
def test_yolo_refuses(line, message, tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "scene.txt").write_text(f"0 0.5 0.5 0.2 0.2\n{line}\n")
    assert f"{tmp_path / 'scene.txt'}, line 2: " in refused(tmp_path, message)


@pytest.mark.parametrize("names", ["names: 3", "names: []", "- cat", "names: [cat", "names: {0: cat, 5: dog}"])
def test_yolo_refuses_names_that_are_none(names, tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "data.yaml").write_text(names)
    assert str(tmp_path / "data.yaml") in refused(tmp_path, "data.yaml: ")


def changed(kind="boxes", **changes):
    """COCO's scene with changes: a key's path, with double underscores, to its new value; None removes it."""
    whole = coco(kind)
    for path, value in changes.items():
        at, *keys = whole, *(int(key) if key.isdecimal() else key for key in path.split("__"))
        for key in keys[:-1]:
            at = at[key]
        if value is None:
            del at[keys[-1]]
        else:
            at[keys[-1]] = value
    return whole


FIRST = "annotations__0__"
RUNS = FIRST + "segmentation__counts"


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        ([], "a list; COCO's annotations are an object"),
        ({"images": []}, "annotations=None"),
        ({"images": [], "annotations": []}, "none of its 0 COCO annotations has the name of an image, as 'scene.jpg'"),
        (changed(images=3), "images=3"),
        (changed(images__0__id=None), "image 0: id None; a whole number is needed"),
        (changed(images__0__file_name=None), "image 0: file_name None"),
        (changed(images__0__file_name=".."), r"image 0: file_name '..'|none of its 1 COCO annotations"),
        (changed(images__0__height=50), "image 0: of an image of 80x50 pixels, and the image has 80x48"),
        (changed(images=[*coco("boxes")["images"] * 2]), "image 1: the id 7 of another image"),
        (changed(**{FIRST + "image_id": 8}), "annotation 0: image_id 8 is the id of no image"),
        (changed(**{FIRST + "category_id": 9}), "annotation 0: category_id 9 is the id of no category"),
        (changed(**{FIRST + "category_id": None}), "annotation 0: category_id None"),
        (changed(categories__1__id=1), "category 1: the id 1 of another"),
        (changed(**{FIRST + "bbox": None}), "annotation 0: bbox: None; 4 numbers are needed"),
        (changed(**{FIRST + "bbox": [1, 2, 3]}), r"annotation 0: bbox: \[1, 2, 3\]; 4 numbers are needed"),
        (changed(**{FIRST + "bbox": [1, 2, True, 3]}), "annotation 0: bbox: True; a number is needed"),
        (changed(**{FIRST + "bbox": [1, 2, float("nan"), 3]}), "bbox: nan; a number is needed"),
        (changed(**{FIRST + "bbox": [70, 2, 30, 3]}), "annotation 0: box 70, 2, 100, 5"),
        (changed(**{FIRST + "bbox": [7, 2, 0, 3]}), "annotation 0: box 7, 2, 7, 5"),
        (changed(**{FIRST + "segmentation": [[1, 2, 3, 4]]}), "segmentation: .* six or more numbers are needed"),
        (changed(**{FIRST + "segmentation": [1, 2, 3, 4, 5, 6]}), "segmentation: 1; six or more numbers"),
        (changed(**{FIRST + "segmentation": "circle"}), "segmentation 'circle'; a list of polygons"),
        (changed(**{FIRST + "segmentation": [[1, 2, 300, 4, 5, 6]]}), "segmentation: box 1, 2, 300, 6"),
        (changed("runs", **{FIRST + "segmentation__size": [9, 9]}), "segmentation: of an image of 9x9"),
        (changed("runs", **{RUNS: [1, 2]}), "segmentation: run lengths of 3 pixels; 3,840 are needed"),
        (changed("runs", **{RUNS: [-1, 3841]}), "none below 0"),
        (changed("runs", **{RUNS: [1.5]}), "a list of whole numbers, or a text"),
        (changed("runs", **{RUNS: "a b"}), "run lengths 'a b' are none of COCO's"),
        (changed("runs", **{RUNS: "oooo"}), "run lengths 'oooo' end within a number"),
    ],
)
def test_coco_refuses(whole, message, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(whole))
    assert str(tmp_path / "a.json") in refused(tmp_path / "a.json", message)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"images": \xff}', "1" * 5000])
def test_coco_refuses_what_is_no_json(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    refused(tmp_path / "a.json", "cannot be read as JSON|a int")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("L", (48, 80)), "of an image of 48x80 pixels, and the image has 80x48"),
        (Image.new("RGB", (80, 48)), r"colours \(RGB\)"),
        (Image.new("LA", (80, 48)), r"colours \(LA\)"),
        (Image.fromarray(np.arange(3840, dtype=np.uint16).reshape(SIZE)), "3,839 values beside 0; .* at most 128"),
        (Image.fromarray(np.repeat(np.uint8([[1, 2]]), 40, 1).repeat(48, 0)), "2 values and no 0"),
        (Image.fromarray(np.repeat(np.uint8([[0, 128, 255, 0]]), 20, 1).repeat(48, 0)), "values 128, 255 and others"),
    ],
)
def test_masks_refuse(image, message, tmp_path):
    image.save(tmp_path / "scene.png")
    assert str(tmp_path / "scene.png") in refused(tmp_path, message)


def test_masks_of_a_palette_have_borders_of_255(tmp_path):
    pixels = np.zeros(SIZE, dtype=np.uint8)
    pixels[10:20, 10:20], pixels[20:30, 10:20], pixels[5:9] = 1, 2, 255
    image = Image.fromarray(pixels, "P")
    image.putpalette([number for number in range(256) for _ in range(3)])
    image.save(tmp_path / "scene.png")
    found = list_annotations(tmp_path).find(["scene.jpg"])["scene.jpg"].read(SIZE)
    assert [int(each.mask().sum()) for each in found] == [100, 100]
    (tmp_path / "scene.png").write_bytes(b"no image")
    refused(tmp_path, "not an image by its content")


PIECES = [b"-", b"e9", b"99999999999", b"null", b'"']


@pytest.mark.parametrize("form", FORMATS)
@settings(deadline=None, max_examples=15, derandomize=True)
@given(data=st.data())
def test_annotations_with_random_changes_are_read_or_refused(form, data, tmp_path_factory):
    """Replace, remove or insert bytes at a random place: a list of objects, or a ValueError of one line."""
    folder = tmp_path_factory.mktemp("boxes")
    FORMATS[form](folder)
    file = next(each for each in sorted(folder.iterdir()) if each.name != "classes.txt")
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    until = data.draw(st.integers(at, min(len(whole), at + 9)))
    inserted = data.draw(st.one_of(st.binary(max_size=4), st.sampled_from(PIECES)))
    file.write_bytes(whole[:at] + inserted + whole[until:])
    try:
        objects = list_annotations(folder).find(["scene.jpg"])["scene.jpg"].read(SIZE)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017  # whether it is raised depends on the change
    else:
        for each in objects:
            assert each.mask().shape == SIZE if each.mask else 0 <= each.box[0] < each.box[2] <= SIZE[1]
