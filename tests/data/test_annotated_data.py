"""A folder of images with annotations: which objects count, what is said, and the size of turned photographs."""

import pytest
import torch
from annotated_scenes import SIZE, mask_of, write_mask, write_voc
from PIL import Image

import foveal
from foveal.data.annotated_data import annotate, upright_size

SCENE = [("cat", (10, 8, 40, 30)), ("dog", (44, 20, 70, 44)), ("cat", (0, 0, 2, 48))]  # the last is cropped away


@pytest.fixture
def photographs(tmp_path):
    """Twenty images of 80x48 in two classes, an annotation of each in a folder beside them."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", SIZE[::-1], "grey").save(tmp_path / "photos" / label / f"{label}{index}.png")
            write_voc(tmp_path / "voc", SCENE, name=f"{label}{index}")
    return tmp_path


def scored(data):
    """Boxes by name, of the parts that are scored."""
    return {
        name: boxes
        for part in (data.validation, data.test)
        for name, boxes in zip(part.names, part.boxes[torch.arange(len(part))], strict=True)
    }


def test_annotate_keeps_the_objects_of_the_class_of_the_image(photographs):
    data, facts = annotate(foveal.load_data(photographs / "photos", image_size=42), photographs / "voc")
    boxes = scored(data)
    assert len(boxes) == 6
    for name, found in boxes.items():  # the side of 48 becomes 48, and 19 columns are cut off, three rows
        expected = [[0, 5, 21, 27]] if name.startswith("cat") else [[25, 17, 42, 41]]
        assert found.tolist() == expected
    cats = sum(name.startswith("cat") for name in boxes)
    assert (facts.format, facts.images, facts.objects, len(facts.sha256)) == ("Pascal VOC", 6, 6, 64)
    assert data.notes["boxes"] == (
        "Pascal VOC, 6 objects in 6 images; an image's objects are those named as its class, of cat, dog; "
        f"{cats} objects cut off, or below a pixel after the resize, as in {next(n for n in boxes if 'cat' in n)}"
    )


def test_annotate_keeps_all_objects_without_the_name_of_a_class_and_says_what_lacks(photographs):
    scene = [("horse", box) for _, box in SCENE]
    loaded = foveal.load_data(photographs / "photos", image_size=42)
    names = [*loaded.validation.names, *loaded.test.names]
    for path in (photographs / "voc").iterdir():
        write_voc(path.parent, scene, name=path.stem)
    for name, objects in ((names[0], None), (names[1], [])):
        stem = name.split("/")[1].removesuffix(".png")
        (photographs / "voc" / f"{stem}.xml").unlink()
        if objects is not None:
            write_voc(photographs / "voc", objects, name=stem)
    data, facts = annotate(loaded, photographs / "voc")
    assert [len(boxes) for boxes in scored(data).values()] == [0, 0, 2, 2, 2, 2]
    assert (facts.images, facts.objects) == (4, 8)
    assert "all objects count: none of their names is a class, as 'horse'" in data.notes["boxes"]
    assert f"1 image without an annotation, as {names[0]}" in data.notes["boxes"]
    assert f"1 image whose annotation holds no object, as {names[1]}" in data.notes["boxes"]


def test_annotate_does_not_give_a_test_image_the_annotation_of_a_training_image(photographs):
    """Each dog has the name of a cat, and the cats alone are annotated, under their folder's name."""
    for index in range(10):
        (photographs / f"photos/dog/dog{index}.png").rename(photographs / f"photos/dog/cat{index}.png")
        write_voc(photographs / "boxes" / "cat", SCENE, name=f"cat{index}")
    data, _ = annotate(foveal.load_data(photographs / "photos", image_size=42), photographs / "boxes")
    assert {name.split("/")[0] for name, boxes in scored(data).items() if len(boxes)} == {"cat"}
    for name in (*data.validation.names, *data.test.names):
        (photographs / "boxes" / name).with_suffix(".xml").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"all of its annotations are of images of the training part"):
        annotate(foveal.load_data(photographs / "photos", image_size=42), photographs / "boxes")


def test_annotate_hashes_the_annotations_that_are_used(photographs):
    loaded = foveal.load_data(photographs / "photos", image_size=42)
    hashes = [annotate(loaded, photographs / "voc")[1].sha256 for _ in range(2)]
    write_voc(photographs / "voc", SCENE[:1], name=loaded.test.names[0].split("/")[1].removesuffix(".png"))
    write_voc(photographs / "voc", SCENE[:1], name="of no image")
    hashes.append(annotate(loaded, photographs / "voc")[1].sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_annotate_carries_masks(photographs):
    data = foveal.load_data(photographs / "photos", image_size=48)
    for name in (*data.validation.names, *data.test.names):
        write_mask(photographs / "masks", SCENE, name=name.split("/")[1].removesuffix(".png"))
    preprocessing = data.preprocessing
    data, facts = annotate(data, photographs / "masks")
    assert (facts.format, facts.objects) == ("masks", 12)
    for masks in scored(data).values():
        assert (masks.dtype, masks.shape[1:]) == (torch.bool, (48, 48))
        for mask, (_, box) in zip(masks, SCENE, strict=False):
            white = preprocessing.transform()(Image.fromarray(mask_of(box) * 255))
            assert torch.equal(mask, white[0] > 127)


def test_annotate_refuses_data_without_files_and_broken_annotations(photographs):
    with pytest.raises(ValueError, match="data 'digits' is no folder of image files, which alone takes it"):
        annotate(foveal.load_data("digits"), photographs / "voc")
    data = foveal.load_data(photographs / "photos", image_size=42)
    broken = photographs / "voc" / f"{data.test.names[-1].split('/')[1].removesuffix('.png')}.xml"
    broken.write_text("<annotation>")
    with pytest.raises(ValueError, match=f"{broken.name}: cannot be read as XML"):
        annotate(data, photographs / "voc")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize(("orientation", "size"), [(1, (30, 40)), (3, (30, 40)), (6, (40, 30)), (8, (40, 30))])
def test_upright_size_is_that_of_the_turned_image(orientation, size, name, tmp_path):
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", (40, 30)).save(tmp_path / name, exif=exif)
    assert upright_size(tmp_path / name) == size
