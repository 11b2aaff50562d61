"""Published layouts of folders: read as what they are, or refused in one line, never as wrong classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

import foveal

LONGEST = 400  # characters of a refusal, without the path


def write(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            Image.new("L", (10, 8), sum(name.encode()) % 256).save(path)
        elif path.suffix == ".mat":
            savemat(path, {"labels": np.arange(4)})
        else:
            path.write_text("a b c\n")


def several(pattern, count=8):
    return [pattern.format(index) for index in range(1, count + 1)]


def imagenet(root, loose=False):
    for label in ("n01440764", "n01443537"):
        write(root, *several(f"train/{label}/{label}_{{}}.JPEG", 12))
        write(root, *several(f"val/{'' if loose else label + '/'}ILSVRC2012_val_{label}_{{:08}}.JPEG", 3))
    write(root, *several("test/ILSVRC2012_test_{:08}.JPEG", 2))


def tiny_imagenet(root):
    lines = []
    for number, label in enumerate(("n01443537", "n01629819", "n01641577")):
        write(root, *several(f"train/{label}/images/{label}_{{}}.JPEG", 12), f"train/{label}/{label}_boxes.txt")
        for index in range(4):
            lines.append(f"val_{4 * number + index}.JPEG\t{label}\t0\t0\t9\t7\n")
    write(root, *[f"val/images/val_{index}.JPEG" for index in range(13)])  # one more than the table names
    write(root, *several("test/images/test_{}.JPEG", 5), "wnids.txt", "words.txt")
    (root / "val/val_annotations.txt").write_text("".join(lines))


def cub(root):
    for label in ("001.Black_footed_Albatross", "002.Laysan_Albatross"):
        write(root / "CUB_200_2011", *several(f"images/{label}/{label[4:]}_{{:04}}.jpg"))
        write(root / "CUB_200_2011", *several(f"segmentations/{label}/{label[4:]}_{{:04}}.png"))
    write(root / "CUB_200_2011", "images.txt", "train_test_split.txt", "attributes/attributes.txt", "parts/parts.txt")


def pets(root):
    write(root, *several("images/Abyssinian_{}.jpg"), *several("images/beagle_{}.jpg"))
    write(root, "annotations/list.txt", *several("annotations/trimaps/Abyssinian_{}.png"))


def flowers(root):
    write(root, *several("jpg/image_{:05}.jpg"), "imagelabels.mat", "setid.mat")


def cars(root):
    write(root, *several("cars_train/{:05}.jpg"), *several("cars_test/{:05}.jpg"), "devkit/cars_meta.mat")


def caltech(root):
    for label in ("accordion", "airplanes", "BACKGROUND_Google"):
        write(root, *several(f"101_ObjectCategories/{label}/image_{{:04}}.jpg"))
    write(root, "Annotations/accordion/annotation_0001.mat")


def dtd(root):
    for label in ("banded", "blotchy"):
        write(root, *several(f"images/{label}/{label}_{{:04}}.jpg"))
    write(root, "labels/train1.txt", "labels/test1.txt", "imdb/imdb.mat")


def eurosat(root, below="2750/"):
    for label in ("AnnualCrop", "Forest"):
        write(root, *several(f"{below}{label}/{label}_{{}}.jpg"))


def medmnist(root, **changes):
    stream = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 12), ("val", 4), ("test", 6)):
        arrays[f"{part}_images"] = stream.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    root.mkdir(exist_ok=True)
    np.savez(root / "pathmnist.npz", **(arrays | changes))


def food(root):
    for label in ("apple_pie", "baklava"):
        write(root, *several(f"images/{label}/{{}}.jpg"))
    write(root, "meta/classes.txt", "meta/train.json", "license_agreement.txt")


def kaggle(root):
    write(root, *several("train/{}.jpg"), *several("test/{}.jpg"), "train.csv", "sample_submission.csv")


def brain_tumours(root):
    for part, count in (("Training", 6), ("Testing", 3)):
        for label in ("glioma", "notumor"):
            write(root, *several(f"{part}/{label}/Tr-{{}}.jpg", count))


def yolo(root):
    for part in ("train", "valid", "test"):
        write(root, *several(f"{part}/images/{{}}.jpg"), *several(f"{part}/labels/{{}}.txt"))


def intel(root):
    for part in ("seg_train/seg_train", "seg_test/seg_test"):
        write(root, *several(f"{part}/forest/{{}}.jpg"), *several(f"{part}/sea/{{}}.jpg"))


def plain(root):
    for part in ("Train", "Val", "Test"):
        write(root, *several(f"{part}/cat/{{}}.jpg", 3), *several(f"{part}/dog/{{}}.jpg", 3))


def mixed(root):
    for folder in ("cat", "dog", "images"):
        write(root, *several(f"{folder}/{{}}.jpg"))


READ = [  # layout, classes, images of the three parts, what the notes or the skipped files name
    (imagenet, ("n01440764", "n01443537"), (20, 4, 6), ("'val' is the test part", "without labels: 2 images")),
    (
        tiny_imagenet,
        ("n01443537", "n01629819", "n01641577"),
        (30, 6, 12),
        ("Tiny ImageNet: 'val' is the test part", "without labels: 5 images", "not in val/val_annotations.txt"),
    ),
    (
        cub,
        ("001.Black_footed_Albatross", "002.Laysan_Albatross"),
        (12, 2, 2),
        ("train_test_split.txt", "beside the folder 'images'"),
    ),
    (caltech, ("accordion", "airplanes"), (12, 2, 2), ("background images of Caltech-101",)),
    (dtd, ("banded", "blotchy"), (12, 2, 2), ("not read: imdb, labels, nor a published split",)),
    (eurosat, ("AnnualCrop", "Forest"), (12, 2, 2), ("looked for in this folder",)),
    (lambda root: eurosat(root, ""), ("AnnualCrop", "Forest"), (12, 2, 2), ()),
    (lambda root: eurosat(root, "a/b/"), ("AnnualCrop", "Forest"), (12, 2, 2), ()),
    (medmnist, ("0", "1"), (12, 4, 6), ()),
    (food, ("apple_pie", "baklava"), (12, 2, 2), ("license_agreement.txt, meta",)),
    (plain, ("cat", "dog"), (6, 6, 6), ()),
]
REFUSED = [  # layout, and the reason with the way out
    (lambda root: imagenet(root, loose=True), "the images in 'val' are in no folder of a class"),
    (
        pets,
        r"images in 'images' .* labels, as annotations/list.txt, .* sort them into such folders, or name a CSV file",
    ),
    (flowers, r"images in 'jpg' are not in one .* as imagelabels.mat, setid.mat, are not read; sort"),
    (cars, r"images in 'cars_test' are not in one folder for each class; .* devkit/cars_meta.mat"),
    (kaggle, r"images in 'train' are not in one .* sample_submission.csv, train.csv, are not read; sort"),
    (brain_tumours, "a folder 'Training' and none for validation; make all three"),
    (yolo, "images in 'train' are not in one folder for each class; sort them into such folders, or name a CSV file"),
    (intel, "seg_test, seg_train are parts by their names, not classes; folders train, val and test are read"),
    (mixed, "the folder 'images' is no class by its name"),
]


@pytest.mark.parametrize(("make", "classes", "counts", "named"), READ)
def test_published_layouts_are_read_as_they_are(make, classes, counts, named, tmp_path):
    make(tmp_path / "data")
    data = foveal.load_data(tmp_path / "data", image_size=8)
    assert data.classes == classes
    assert tuple(len(part) for part in (data.train, data.validation, data.test)) == counts
    text = " ".join(f"{name} {reason}" for name, reason in (data.notes | data.skipped).items())
    assert not [each for each in named if each not in text]
    assert not set(data.split["train"]) & set(data.split["validation"]) or make is medmnist
    assert all(not data.absent(part) for part in data.split)
    images, labels = data.test.__getitems__(range(len(data.test)))
    assert images.shape[2:] == (8, 8)
    if make not in (medmnist, tiny_imagenet):
        assert [Path(name).parent.name for name in data.test.names] == [classes[label] for label in labels]


@pytest.mark.parametrize(("make", "says"), REFUSED)
def test_layouts_whose_folders_are_no_classes_are_refused_in_one_line(make, says, tmp_path):
    make(tmp_path / "data")
    with pytest.raises(ValueError, match=says) as refused:
        foveal.load_data(tmp_path / "data", image_size=8)
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) - len(str(tmp_path)) < LONGEST


def test_tiny_imagenets_test_labels_come_from_its_table(tmp_path):
    tiny_imagenet(tmp_path)
    data = foveal.load_data(tmp_path, image_size=8)
    number = [int(Path(name).stem.removeprefix("val_")) for name in data.test.names]
    assert data.test.labels.tolist() == [each // 4 for each in number]
    assert data.train.labels.bincount().tolist() == [10] * 3
    assert [name.split("/")[1] for name in data.train.names] == [data.classes[label] for label in data.train.labels]


def ready(root, **parts):
    for part, labels in parts.items():
        for label in labels:
            write(root, *several(f"{part}/{label}/{{}}.png", 2))
    return root


def test_ready_parts_share_their_classes(tmp_path):
    alone = ready(tmp_path / "a", train=("cat", "dog", "fox"), val=("cat", "dog"), test=("cat", "dog"))
    with pytest.raises(ValueError, match="no image of fox in the validation and test parts; add some, or remove it"):
        foveal.load_data(alone)
    for part in ("val", "test"):
        parts = {"train": ("cat", "dog"), "val": ("cat", "dog"), "test": ("cat", "dog")}
        strange = ready(tmp_path / part, **{**parts, part: ("cat", "dog", "fox")})
        with pytest.raises(ValueError, match="no image of fox in the training part; add some, or remove it from"):
            foveal.load_data(strange)
    one = ready(tmp_path / "b", train=("cat", "dog", "fox"), val=("cat", "dog", "fox"), test=("cat", "dog"))
    data = foveal.load_data(one, image_size=8)
    assert data.absent("test") == ["fox"]
    assert data.remarks == {"test part": "no image of fox"}


def test_a_class_of_which_no_file_can_be_read_in_training_is_refused_too(tmp_path):
    folder = ready(tmp_path, train=("cat", "dog", "fox"), val=("cat", "dog", "fox"), test=("cat", "dog", "fox"))
    for path in (folder / "train/fox").iterdir():
        path.write_text("no image")
    with pytest.raises(ValueError, match="no image of fox in the training part"):
        foveal.load_data(folder)


def test_an_archive_of_medmnist_is_read_as_it_is(tmp_path):
    medmnist(tmp_path)
    data = foveal.load_data(tmp_path / "pathmnist.npz")
    with np.load(tmp_path / "pathmnist.npz") as archive:
        for part, prefix in (("train", "train"), ("validation", "val"), ("test", "test")):
            images, labels = getattr(data, part).images, getattr(data, part).labels
            assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), archive[f"{prefix}_images"])
            assert labels.tolist() == archive[f"{prefix}_labels"][:, 0].tolist()
        mean = archive["train_images"].mean((0, 1, 2)) / 255
    assert data.preprocessing.mean == pytest.approx(mean)
    assert torch.equal(foveal.load_data(f"folder:{tmp_path}").train.images, data.train.images)
    grey = np.zeros((12, 8, 8), np.uint8)
    medmnist(tmp_path, **{f"{part}_images": grey[:n] for part, n in (("train", 12), ("val", 4), ("test", 6))})
    assert foveal.load_data(tmp_path / "pathmnist.npz").shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"test_labels": np.zeros((6, 14), np.uint8)}, r"test_labels uint8 \(6, 14\); .* one whole number an image"),
        ({"train_images": np.zeros((12, 8, 8, 8), np.uint8)}, r"train_images uint8 \(12, 8, 8, 8\) and"),
        ({"val_images": np.zeros((4, 8, 8), np.float32)}, r"val_images float32 \(4, 8, 8\)"),
        ({"test_labels": np.full((6, 1), 5, np.uint8)}, "no training image of class 5"),
        ({"val_images": np.zeros((4, 9, 9, 3), np.uint8)}, "images of several sizes"),
        ({"train_labels": np.zeros((11, 1), np.uint8)}, r"train_labels uint8 \(11, 1\)"),
    ],
)
def test_archives_of_another_kind_are_refused(changes, says, tmp_path):
    medmnist(tmp_path, **changes)
    with pytest.raises(ValueError, match=says):
        foveal.load_data(tmp_path)


def test_archives_that_are_broken_or_several_are_refused(tmp_path):
    medmnist(tmp_path)
    whole = (tmp_path / "pathmnist.npz").read_bytes()
    (tmp_path / "pathmnist.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"pathmnist.npz is no archive of MedMNIST's kind"):
        foveal.load_data(tmp_path)
    np.savez(tmp_path / "other.npz", x=np.ones(1))
    with pytest.raises(ValueError, match=r"several archives, other.npz, pathmnist.npz; name one file"):
        foveal.load_data(tmp_path)
    with pytest.raises(ValueError, match=r"other.npz is no archive of MedMNIST's kind"):
        foveal.load_data(tmp_path / "other.npz")
