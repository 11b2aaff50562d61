"""Annotations of one scene in every format give the same objects; which annotation belongs to which image."""

import json

import pytest
import torch
from annotated_scenes import FORMATS, SCENE, SIZE, mask_of, write_coco, write_voc, write_yolo
from PIL import Image
from timm.data import create_transform
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from foveal.data.annotated_objects import carry_objects
from foveal.data.annotations import list_annotations
from foveal.data.preprocessing import Preprocessing


def objects_in(path, name="images/scene.jpg", size=SIZE):
    return list_annotations(path).find([name])[name].read(size)


def boxes_of(shown: torch.Tensor) -> torch.Tensor:
    """Boxes as they are; of masks the edges of their pixels."""
    return shown if shown.ndim == 2 else masks_to_boxes(shown) + torch.tensor([0, 0, 1, 1])


def seen(height: int, width: int, crop_pct: float, flipped: bool) -> torch.Tensor:
    """The boxes of the scene's objects where timm's transform shows them, drawn white on black."""
    transform = create_transform((3, height, width), is_training=False, normalize=False, crop_pct=crop_pct)
    drawn = [transform(Image.fromarray(mask_of(box) * 255)) for _, box in SCENE]
    return boxes_of(torch.cat([each.flip(2) if flipped else each for each in drawn]) > 127)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("height", "width", "crop_pct"), [(48, 48, 1.0), (24, 24, 1.0), (96, 96, 0.75), (32, 40, 0.8), (17, 17, 0.9)]
)
def test_annotations_of_every_format_give_the_same_boxes(form, height, width, crop_pct, tmp_path):
    objects = objects_in(FORMATS[form](tmp_path))
    assert [each.name for each in objects] in ([name for name, _ in SCENE], [None] * 3)
    transform = Preprocessing((3, height, width), (0,) * 3, (1,) * 3, crop_pct, "bilinear").transform()
    for flipped in (False, True):
        whole = v2.Compose([*transform.transforms[:-1], v2.RandomHorizontalFlip(float(flipped)), v2.PILToTensor()])
        shown, left = carry_objects(objects, SIZE, whole)
        assert left.all()
        assert (boxes_of(shown) - seen(height, width, crop_pct, flipped)).abs().max() <= 0.501


def test_objects_beyond_the_crop_are_left_out(tmp_path):
    scene = [("cat", (0, 0, 8, 48)), ("cat", (36, 20, 44, 28)), ("dog", (20, 20, 20.2, 20.2))]  # of 80 x 48
    transform = Preprocessing((3, 24, 24), (0,) * 3, (1,) * 3).transform()
    objects = objects_in(write_yolo(tmp_path, scene))
    shown, left = carry_objects(objects, SIZE, transform)
    assert left.tolist() == [False, True, False]  # cut off; in the middle; a tenth of a pixel
    assert shown[1].tolist() == pytest.approx([10, 10, 14, 14])
    assert carry_objects([], SIZE, transform)[0].shape == (0, 4)


def test_find_takes_the_annotation_with_the_most_equal_path(tmp_path):
    for part in ("train", "val"):
        for label in ("cat", "dog"):
            write_voc(tmp_path / part / label, name="1")
    annotations = list_annotations(tmp_path)
    names = ["val/dog/1.jpg", "train/cat/1.png", "other/2.jpg"]
    found = annotations.find(names)
    assert {name: source.file for name, source in found.items()} == {
        "val/dog/1.jpg": tmp_path / "val/dog/1.xml",
        "train/cat/1.png": tmp_path / "train/cat/1.xml",
    }
    with pytest.raises(ValueError, match=r"both 'train/cat/1' and 'val/cat/1' may be of the image 'cat/1.jpg'"):
        annotations.find(["cat/1.jpg"])
    # of parts whose folders are named elsewhere in the path, as in train/images and train/labels
    for part in ("train", "val"):
        write_yolo(tmp_path / "yolo" / part / "labels", name="1")
    found = list_annotations(tmp_path / "yolo").find(["val/images/1.jpg"])
    assert found["val/images/1.jpg"].file == tmp_path / "yolo/val/labels/1.txt"


def test_find_refuses_one_annotation_of_two_images_and_none_at_all(tmp_path):
    annotations = list_annotations(write_voc(tmp_path, name="1"))
    with pytest.raises(ValueError, match=r"'1' may be of both images 'cat/1.jpg' and 'dog/1.jpg'"):
        annotations.find(["cat/1.jpg", "dog/1.jpg"])
    of_cats = list_annotations(write_voc(tmp_path / "all" / "cat", name="1").parent)
    for names in (["cat/1.jpg", "dog/1.jpg"], ["dog/1.jpg", "cat/1.jpg"]):
        assert list(of_cats.find(names)) == ["cat/1.jpg"]
    with pytest.raises(
        ValueError, match=r"none of its 1 Pascal VOC annotations, as '1', has the name of .*'cat/2.jpg'"
    ):
        annotations.find(["cat/2.jpg"])


def test_coco_files_of_a_folder_are_read_together(tmp_path):
    write_coco(tmp_path / "train", name="1")
    write_coco(tmp_path / "valid", name="1")
    found = list_annotations(tmp_path).find(["valid/cat/1.jpg", "train/dog/1.jpg"])
    assert [source.file.parent.name for source in found.values()] == ["valid", "train"]


@pytest.mark.parametrize("file", ["classes.txt", "data.yaml", "../data.yaml", "../../data.yaml"])
def test_yolo_classes_are_named_beside_the_labels_or_above_them(file, tmp_path):
    folder = write_yolo(tmp_path / "train" / "labels")
    (folder / "classes.txt").unlink()
    assert {each.name for each in objects_in(folder)} == {None}
    names = "tom\nrex\n" if file == "classes.txt" else "nc: 2\nnames: {0: tom, 1: rex}\n"
    (folder / file).write_text(names)
    assert [each.name for each in objects_in(folder)] == ["rex", "tom", "rex"]


def test_yolo_classes_are_named_beside_the_labels_below_the_path(tmp_path):
    folder = write_yolo(tmp_path / "deep" / "labels")
    (folder / "classes.txt").write_text("tom\nrex\n")
    assert [each.name for each in objects_in(tmp_path)] == ["rex", "tom", "rex"]


def write_two_formats(path):
    write_voc(path / "Annotations")
    write_yolo(path / "Sets")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.rmdir(), "there is no such file or folder"),
        (lambda path: None, "a folder without annotations; .json"),
        (lambda path: (path / "README.txt").write_text("words"), "a folder without annotations"),
        (write_two_formats, r"holds YOLO \(Sets/scene.txt\) and Pascal VOC \(Annotations/scene.xml\); name the folder"),
    ],
)
def test_list_annotations_refuses_other_folders(write, message, tmp_path):
    folder = tmp_path / "boxes"
    folder.mkdir()
    write(folder)
    with pytest.raises(ValueError, match=message) as refused:
        list_annotations(folder)
    assert str(refused.value).startswith(f"boxes='{folder}': ")
    (tmp_path / "boxes.csv").write_text("1,2,3,4")
    with pytest.raises(ValueError, match=r"a file that ends in .csv"):
        list_annotations(tmp_path / "boxes.csv")


def test_images_beside_their_labels_are_no_masks(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "scene.png").write_bytes(b"")
    assert list_annotations(tmp_path).format == "YOLO"


def test_coco_of_many_images_gives_each_its_own(tmp_path):
    whole = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(3)],
        "annotations": [{"image_id": number % 2, "bbox": [number, 0, 5, 5]} for number in range(4)],
    }
    (tmp_path / "a.json").write_text(json.dumps(whole))
    found = list_annotations(tmp_path / "a.json").find(["0.jpg", "1.jpg", "2.jpg"])
    assert [[each.box[0] for each in source.read(SIZE)] for source in found.values()] == [[0, 2], [1, 3], []]
