"""Data sets of Hugging Face: folders of every kind, parts, classes, what is refused."""

import numpy as np
import pytest
from PIL import Image
from shards import grey_values

import foveal
from foveal.data.labels import UNREAD
from foveal.data.preprocessing import Preprocessing

datasets = pytest.importorskip("datasets")

SMALL = Preprocessing((3, 20, 20), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LABEL = datasets.ClassLabel(names=["cat", "dog"])


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def table(count, first=0, kind=LABEL, label=lambda number: number % 2, names=("image", "label")):
    """Make a table of grey images whose value is their number."""
    numbers = range(first, first + count)
    images = [Image.fromarray(np.full((20, 24, 3), number, np.uint8)) for number in numbers]
    features = datasets.Features({names[0]: datasets.Image(), names[1]: kind})
    return datasets.Dataset.from_dict(
        {names[0]: images, names[1]: [label(number) for number in numbers]}, features=features
    )


def parts():
    return {"train": table(12), "validation": table(4, 100), "test": table(6, 200)}


def write_parquet(folder, tables):
    folder.mkdir()
    for split, each in tables.items():
        each.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def load(folder, **options):
    return foveal.load_data(f"hfds/{folder}", preprocessing=SMALL, **options)


def check(data):
    assert data.classes == ("cat", "dog")
    assert data.split["test"] == [f"test/{row}" for row in range(6)]
    assert data.train.labels.tolist() == [0, 1] * 6
    assert grey_values(data.validation) == list(range(100, 104))
    assert grey_values(data.test) == list(range(200, 206))
    assert not data.skipped
    assert not data.notes


def test_load_data_reads_parquet_files(tmp_path):
    data = load(write_parquet(tmp_path / "data", parts()))
    check(data)
    images, labels = data.train.__getitems__([3, 0])
    assert images.shape == (2, 3, 20, 20)
    assert labels.tolist() == [1, 0]


def test_load_data_reads_what_save_to_disk_wrote(tmp_path):
    datasets.DatasetDict(parts()).save_to_disk(tmp_path / "parts")
    check(load(tmp_path / "parts"))
    table(40).save_to_disk(tmp_path / "one")
    data = load(tmp_path / "one")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [28, 6, 6]
    assert grey_values(data.test) == [int(name.rpartition("/")[2]) for name in data.test.names]


def test_load_data_reads_images_of_a_folder_by_their_paths(tmp_path):
    for part, count in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (24, 20), (number, number, number)).save(folder / f"{number:02d}.png")
    data = load(tmp_path / "photos")
    assert data.classes == ("cat", "dog")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [20, 4, 8]
    assert grey_values(data.test) == [0, 1, 2, 3] * 2
    assert "'test' is the test part; the validation part is a sixth of 'train'" in data.notes["parts"]


def test_load_data_takes_names_as_classes_and_leaves_out_a_split_without_labels(tmp_path):
    text, number = datasets.Value("string"), datasets.Value("int64")
    train = table(12, kind=text, label=lambda each: "ba"[each % 2])
    data = load(write_parquet(tmp_path / "names", {"train": train, "test": table(4, 100, text, lambda _: "a")}))
    assert data.classes == ("a", "b")
    assert data.test.labels.tolist() == [0] * 4
    tables = {split: table(12, kind=number) for split in ("train", "validation")}
    data = load(write_parquet(tmp_path / "bare", {**tables, "test": table(5, 0, number, lambda _: -1)}))
    assert data.classes == ("0", "1")
    assert data.skipped == {"test": "published without labels: 5 images"}
    assert len(data.test) == 12


def test_load_data_finds_a_broken_image(tmp_path):
    whole = table(30).cast_column("image", datasets.Image(decode=False))
    rows = list(whole)
    rows[3]["image"] = {"path": None, "bytes": b"none"}
    features = datasets.Features({"image": datasets.Image(), "label": LABEL})
    folder = write_parquet(tmp_path / "data", {"train": datasets.Dataset.from_list(rows, features=features)})
    data = load(folder)
    place = next((part, names.index("train/3")) for part, names in data.split.items() if "train/3" in names)
    part = getattr(data, place[0])
    assert part.__getitems__([place[1]])[1].tolist() == [UNREAD]
    assert part.why_unread(place[1]) == "not an image by its content"
    assert load(folder, decode=True).skipped == {"train/3": "not an image by its content"}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: table(9, kind=datasets.Value("int64"), label=lambda number: number - 1), "train: row 0 has no label"),
        (lambda: table(9, kind=datasets.Value("float64"), label=float), "train, row 0: label 0.0; a whole number"),
        (lambda: table(9, names=("image", "kind")).add_column("other", [0] * 9).cast_column("other", LABEL),
         "several columns of classes, kind, other; one is needed"),
        (lambda: table(9, names=("image", "n"), kind=datasets.Value("int64")), "no column of classes; .* image, n"),
        (lambda: table(9).remove_columns("image"), "no column of images"),
        (lambda: table(9, label=lambda number: 1), "one class alone, 'dog'"),
    ],
)  # fmt: skip
def test_load_data_refuses_a_table_that_it_does_not_understand(tmp_path, made, message):
    folder = write_parquet(tmp_path / "data", {"train": made()})
    with pytest.raises(ValueError, match=message) as raised:
        load(folder)
    assert "\n" not in str(raised.value)


def test_load_data_refuses_a_name_that_is_not_found():
    with pytest.raises(ValueError, match=r"data 'hfds/nobody/nothing': .*nobody/nothing") as raised:
        foveal.load_data("hfds/nobody/nothing")
    assert "\n" not in str(raised.value)
