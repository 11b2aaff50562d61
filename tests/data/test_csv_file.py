"""CSV files of image files and their classes."""

import csv

import pytest
import torch
from PIL import Image

import foveal
from foveal.data.parts import PARTS


def write_photos(folder, count):
    """Write `count` grey images in a folder: the brightness of image i is i."""
    (folder / "photos").mkdir()
    for index in range(count):
        Image.new("L", (9, 9), index).save(folder / f"photos/{index}.png")


def write_csv(folder, head, rows, name="labels.csv", encoding="utf-8"):
    with (folder / name).open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return folder / name


def labels_by_name(data):
    return {
        name: data.classes[label]
        for part in (data.train, data.validation, data.test)
        for name, label in zip(part.names, part.labels.tolist(), strict=True)
    }


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path, 20)
    return tmp_path


def test_load_data_reads_a_csv_file_and_splits_by_class(photos):
    rows = [[f"photos/{index}.png", "dog" if index % 4 else "cat", index * 3] for index in range(20)]
    path = write_csv(photos, ["path", "Label", "age"], rows, encoding="utf-8-sig")  # as a spreadsheet writes it
    data = foveal.load_data(str(path), image_size=16)
    assert data.classes == ("cat", "dog")
    assert labels_by_name(data) == {name: label for name, label, _ in rows}
    assert [len(part) for part in (data.train, data.validation, data.test)] == [14, 3, 3]  # 3, 1, 1 cats
    assert data.notes == {"columns": "age not read"}
    images, labels = data.test.__getitems__([0, 1, 2])
    assert [int(image.float().mean()) for image in images] == [int(name[7:-4]) for name in data.test.names]
    assert labels.dtype == torch.int64
    again = foveal.load_data(path, image_size=16)
    assert (again.split, again.name) == (data.split, data.name)


def test_load_data_uses_the_parts_of_a_csv_file(photos):
    names = {"train": "Train", "validation": "val", "test": "test"}
    rows = [[index % 2, names[PARTS[index % 3]], f"photos/{index}.png"] for index in range(20)]
    data = foveal.load_data(write_csv(photos, ["class", "split", "file_name"], rows))
    assert data.split == {part: [row[2] for row in rows if row[1] == names[part]] for part in PARTS}
    assert data.classes == ("0", "1")


def test_load_data_takes_the_validation_part_of_a_csv_file_from_its_training_part(photos):
    rows = [[f"photos/{index}.png", index % 2, "train" if index < 12 else "test", index // 2] for index in range(20)]
    data = foveal.load_data(write_csv(photos, ["image", "label", "split", "group"], rows))
    assert data.test.names == [f"photos/{index}.png" for index in range(12, 20)]
    assert sorted(map(len, (data.train, data.validation))) == [2, 10]  # one of six groups
    assert abs(int(data.validation.names[0][7:-4]) - int(data.validation.names[1][7:-4])) == 1
    assert data.notes["parts"] == "the validation part is a sixth of the training part, stratified"


def test_load_data_keeps_the_groups_of_a_csv_file_in_one_part(photos):
    rows = [[f"photos/{index}.png", index % 2, f"animal {index // 2}" if index > 3 else ""] for index in range(20)]
    data = foveal.load_data(write_csv(photos, ["image", "label", "group"], rows))
    groups = {row[0]: row[2] or row[0] for row in rows}
    found = [{groups[name] for name in names} for names in data.split.values()]
    assert sum(map(len, found)) == len(set(groups.values()))
    assert sum(map(len, data.split.values())) == 20


def test_load_data_leaves_out_files_of_a_csv_file_that_are_missing_or_broken(photos):
    (photos / "photos/3.png").write_text("no image")
    (photos / "beside.txt").write_text("no image")
    rows = [[f"./photos/{index}.png", index % 2] for index in range(20)]
    rows += [["photos/none.png", 0], ["beside.txt", 1], ["photos", 1], ["photos/gone.png", "bird"]]
    rows += [[str(photos / "photos/../elsewhere.png"), 1]]
    Image.new("L", (9, 9)).save(photos / "elsewhere.png")
    data = foveal.load_data(write_csv(photos, ["image", "label"], rows))
    assert data.skipped == {
        "photos/none.png": "no such file",
        "photos/gone.png": "no such file",
        "photos": "not a file",
        "photos/3.png": "not an image by its content",
        "beside.txt": "not an image by its name (.txt)",
        "class bird": "no class: it holds no image that can be read",
    }
    assert len(labels_by_name(data)) == 20
    assert str(photos / "elsewhere.png") in labels_by_name(data)


BROKEN = {
    "no column of paths": ("picture,label\n1.png,a\n", "no column image or path .* in its first line, picture, label"),
    "semicolons": ("image;label\n1.png;a\n", "first line, image;label; it names the columns, separated by commas"),
    "empty file": ("", "which is empty"),
    "no line": ("image,label\n", "no line after that of the column names"),
    "two columns of paths": ("image,path,label\n1.png,2.png,a\n", "image, path are columns of one meaning"),
    "one and several": ("image,label,labels\n1.png,a,a|b\n", "label is one class for each image and labels several"),
    "a cell more": ("image,label\n1.png,a\n2.png,a,b\n", "line 3: 3 cells, and the first line has 2"),
    "no label": ("image,label\n1.png,a\n2.png, \n", "line 3: the label is empty"),
    "no path": ("image,label\n,a\n", "line 2: no path of an image"),
    "an image twice": ("image,label\na/1.png,a\n2.png,b\na/./1.png,b\n", "line 4: 'a/1.png' is in line 2, too"),
    "an unknown part": ("image,label,split\n1.png,a,train\n2.png,b,held out\n", "line 3: split 'held out'; one of"),
    "no test part": ("image,label,split\n1.png,a,train\n2.png,b,val\n", "no image of the split test"),
    "group in two parts": (
        "image,label,split,group\n1.png,a,train,x\n2.png,b,test,x\n",
        "group 'x' is in two parts, with '1.png' in train and '2.png' in test",
    ),
    "no labels": ("image,split\n1.png,train\n2.png,test\n", "no column label .one class.*, no column labels .several"),
    "a column of words": ("image,animal\n1.png,cat\n", "line 2, column 'animal': 'cat'; without a column label"),
    "another number": ("image,cat,dog\n1.png,0,1\n2.png,2,0\n", "line 3, column 'cat': '2'"),
    "a class twice": ("image,cat,cat\n1.png,0,1\n", "two columns are named 'cat'"),
    "another separator": ("image,labels\n1.png,cat;dog\n2.png,dog\n", "no cell of its column of labels has two"),
    "nothing between": ("image,labels\n1.png,cat||dog\n", "line 2: 'cat||dog' has an empty name"),
    "no such files": ("image,label\n1.png,a\n2.png,b\n", "no image of a class in it .left out: 2 no such file"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_load_data_refuses_a_csv_file_in_one_line(tmp_path, case):
    text, message = BROKEN[case]
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        foveal.load_data(tmp_path / "labels.csv")
    assert str(refused.value).startswith(f"data '{tmp_path}/labels.csv'")
    assert "\n" not in str(refused.value)


def test_load_data_refuses_a_csv_file_that_is_missing_or_no_text_or_grouped_twice(photos):
    with pytest.raises(ValueError, match=r"data 'none\.csv': there is no such file"):
        foveal.load_data("none.csv")
    (photos / "binary.csv").write_bytes(b"image,label\n\xff,1\n")
    with pytest.raises(ValueError, match=r"binary\.csv: not a text in UTF-8"):
        foveal.load_data(photos / "binary.csv")
    groups = write_csv(photos, ["image", "group"], [["photos/1.png", "x"]], "groups.csv")
    rows = [[f"photos/{index}.png", index % 2, "x"] for index in range(20)]
    grouped = write_csv(photos, ["image", "label", "group"], rows)
    with pytest.raises(ValueError, match=r"groups='.*groups\.csv': data '.*labels\.csv' states groups of its own"):
        foveal.load_data(grouped, groups=groups)
    split = write_csv(photos, ["image", "label", "split"], [[*row[:2], "train" if row[1] else "test"] for row in rows])
    with pytest.raises(ValueError, match=r"data '.*labels\.csv' is split already"):
        foveal.load_data(split, groups=groups)


def test_load_data_refuses_an_image_that_two_lines_name_in_different_ways(photos):
    rows = [["photos/1.png", "cat"], [photos / "photos/1.png", "dog"]]
    with pytest.raises(ValueError, match=r"line 3: '/.*1\.png' is in line 2, too; one line an image"):
        foveal.load_data(write_csv(photos, ["image", "label"], rows))


def test_load_data_reads_a_large_csv_file_fast(tmp_path):
    """Lines of missing files are read and named in seconds: nothing in it grows with the square of their number."""
    rows = [[f"{index}.png", index % 100, index // 2] for index in range(30_000)]
    with pytest.raises(ValueError, match=r"left out: 30,000 no such file"):
        foveal.load_data(write_csv(tmp_path, ["image", "label", "group"], rows))


@pytest.mark.parametrize("kind", ["names in a cell", "columns"])
def test_load_data_reads_several_classes_of_an_image(photos, kind):
    """A cat in every second image, a dog in every third; image 1 has neither."""
    if kind == "columns":
        rows = [[f"photos/{index}.png", int(index % 2 == 0), f"{float(index % 3 == 0)}", index] for index in range(20)]
        head = ["image", "cat", "dog", ""]  # as pandas writes its index
    else:
        names = [[name for each, name in ((2, "cat"), (3, "dog")) if index % each == 0] for index in range(20)]
        rows = [[f"photos/{index}.png", "|".join(own), "x"] for index, own in enumerate(names)]
        head = ["image", "labels", "remark"]
    data = foveal.load_data(write_csv(photos, head, rows), image_size=16)
    assert data.classes == ("cat", "dog")
    assert data.multi_label
    parts = (data.train, data.validation, data.test)
    for part in parts:
        assert part.labels.tolist() == [[float(int(name[7:-4]) % each == 0) for each in (2, 3)] for name in part.names]
    assert [part.labels.sum(0).tolist() for part in parts] == [[7, 5], [2, 1], [1, 1]]  # of 10 and 7
    assert [len(part) for part in parts] == [14, 3, 3]
    assert data.absent("test") == []


def test_load_data_says_that_a_class_has_no_image_and_that_each_image_has_one(photos):
    rows = [[f"photos/{index}.png", index % 2, (index + 1) % 2, 0] for index in range(20)]
    data = foveal.load_data(write_csv(photos, ["image", "cat", "dog", "a|b"], rows))
    assert data.skipped == {"class a|b": "no class: it holds no image that can be read"}
    assert data.notes["classes"].startswith("each image has exactly one")
    rows[3][3] = 1
    with pytest.raises(ValueError, match=r"class 'a\|b': '\|' separates classes; rename it"):
        foveal.load_data(write_csv(photos, ["image", "cat", "dog", "a|b"], rows))
