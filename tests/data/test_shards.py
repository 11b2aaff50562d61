"""WebDataset: parts, names, order of epochs, truncated shards, what is refused."""

import json

import pytest
import torch
from shards import encoded, grey_values, samples, write_shard

import foveal
from foveal.data import shards
from foveal.data.labels import UNREAD
from foveal.data.parts import draw_order
from foveal.data.preprocessing import Preprocessing

SMALL = Preprocessing((3, 20, 20), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "cache"))


def load(root, **options):
    return foveal.load_data(f"wds/{root}", preprocessing=SMALL, **options)


@pytest.fixture
def root(tmp_path):
    """Three parts by the names of their shards: 24 training images in 3 shards, 6 and 10 others."""
    folder = tmp_path / "flowers"
    for number in range(3):
        write_shard(folder / f"flowers-train-{number:04d}.tar", samples(8, 8 * number))
    write_shard(folder / "flowers-val-0000.tar", samples(6, 100))
    write_shard(folder / "flowers-test-0000.tar", samples(10, 200))
    return folder


def test_load_data_reads_shards_by_the_parts_in_their_names(root):
    data = load(root)
    assert data.classes == ("0", "1")
    assert data.train.names[9] == "flowers-train-0001.tar/0009.png"
    assert data.train.labels.tolist() == [number % 2 for number in range(24)]
    assert grey_values(data.validation) == list(range(100, 106))
    assert grey_values(data.test) == list(range(200, 210))
    assert not data.skipped
    assert not data.notes


def test_load_data_reads_shards_as_webdataset_does(root):
    wds = pytest.importorskip("webdataset")
    files = [str(each) for each in sorted(root.glob("*train*"))]
    seen = [
        (sample["__key__"], int(sample["cls"]), sample["png"])
        for sample in wds.WebDataset(files, shardshuffle=False, empty_check=False)
    ]
    train = load(root).train
    assert [name.rpartition("/")[2] for name in train.names] == [f"{key}.png" for key, _, _ in seen]
    assert train.labels.tolist() == [label for _, label, _ in seen]
    assert [train.file(index) for index in range(24)] == [content for _, _, content in seen]


def test_draw_order_takes_shards_one_after_another_and_mixes_their_images(root, monkeypatch):
    monkeypatch.setattr(shards, "MIXED", 8)
    part = load(root).train
    orders = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        orders.append(draw_order(part).tolist())
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(24))
    blocks = [orders[0][begin : begin + 8] for begin in (0, 8, 16)]
    assert {frozenset(index // 8 for index in block) for block in blocks} == {frozenset({n}) for n in range(3)}
    assert all(block != sorted(block) for block in blocks)


def test_load_data_takes_the_splits_of_info_json(tmp_path):
    for number, count in enumerate((12, 4, 6, 3)):
        write_shard(tmp_path / f"{number}.tar", samples(count, 50 * number))
    names = {"train": "0.tar", "validation": "1.tar", "test": "2.tar"}
    facts = {split: {"name": split, "num_samples": 9, "shard_lengths": [9], "filenames": [file]}
             for split, file in names.items()}  # fmt: skip
    (tmp_path / "_info.json").write_text(json.dumps({"splits": facts}))
    data = load(tmp_path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 4, 6]
    assert grey_values(data.test) == list(range(100, 106))
    assert data.skipped == {"3.tar": "in no split of _info.json"}


def test_load_data_splits_shards_without_parts_and_validates_on_a_sixth_of_published_ones(tmp_path):
    for number in range(4):
        write_shard(tmp_path / "one" / f"{number:03d}.tar", samples(10, 10 * number))
    data = load(tmp_path / "one")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [28, 6, 6]
    every = [name for names in data.split.values() for name in names]
    assert sorted(every) == [f"{number // 10:03d}.tar/{number:04d}.png" for number in range(40)]
    assert data.notes == {"parts": "all are from the split 'all', 70/15/15, stratified"}
    write_shard(tmp_path / "two" / "train" / "0.tar", samples(24))
    write_shard(tmp_path / "two" / "val" / "0.tar", samples(8, 100))
    data = load(tmp_path / "two")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [20, 4, 8]
    assert "'val' is the test part; the validation part is a sixth of 'train'" in data.notes["parts"]


def test_load_data_names_a_truncated_shard_and_reads_its_first_images(root):
    path = root / "flowers-train-0001.tar"
    content = path.read_bytes()
    place = content.index(b"0013.png")
    inside = place + 512 + 20  # within the image's bytes
    for cut in (inside, place + 100, place):  # within its header; between two samples
        path.write_bytes(content[:cut])
        data = load(root)
        assert len(data.train) == 8 + 5 + 8, cut
        reason = f"truncated after {cut:,} bytes; 5 images were found before"
        assert data.skipped == {"flowers-train-0001.tar": reason}
    path.write_bytes(content[:place] + b"\xff" * 512 + content[place + 512 :])
    reason = f"broken at byte {place:,} of {len(content):,}; 5 images were found before"
    assert load(root).skipped == {"flowers-train-0001.tar": reason}
    path.write_bytes(b"no tar file" * 100)
    data = load(root)
    assert len(data.train) == 16
    assert data.skipped["flowers-train-0001.tar"].startswith("cannot be read as a tar file")


def test_load_data_leaves_out_samples_without_a_class_or_an_image(root):
    odd = [
        ("a", {"png": encoded(1)}),
        ("b", {"cls": b"1", "json": b"{}"}),
        ("c", {"png": encoded(1), "cls": b"cat"}),
        ("d", {"png": b"broken", "cls": b"1"}),
        ("e.f/g", {"JPG": encoded(9, kind="JPEG"), "cls": b" 1\n", "seg.png": b""}),
    ]
    write_shard(root / "flowers-test-0001.tar", odd)
    data = load(root)
    assert data.skipped == {
        "flowers-test-0001.tar/a.png": "no .cls with its class beside it",
        "flowers-test-0001.tar/b": "no image among cls, json",
        "flowers-test-0001.tar/c.png": "class 'cat' in .cls; a whole number is needed",
    }
    assert data.test.names[-2:] == ["flowers-test-0001.tar/d.png", "flowers-test-0001.tar/e.f/g.JPG"]
    labels = data.test.__getitems__([9, 10, 11])[1]
    assert labels.tolist() == [1, UNREAD, 1]
    assert data.test.why_unread(10) == "not an image by its content"
    whole = load(root, decode=True)
    assert whole.skipped["flowers-test-0001.tar/d.png"] == "not an image by its content"
    assert len(whole.test) == 11


def test_load_data_lists_shards_once(root, monkeypatch):
    from foveal.data import examine_shards

    monkeypatch.setattr(examine_shards, "WORTH", 0.0)
    monkeypatch.setattr(examine_shards, "SETTLED", -(10**12))
    first = load(root)
    write_shard(root / "flowers-val-0000.tar", samples(7, 100))
    seen = []
    examine = examine_shards.examine_shard
    monkeypatch.setattr(examine_shards, "examine_shard", lambda root, name: seen.append(name) or examine(root, name))
    again = load(root)
    assert seen == ["flowers-val-0000.tar"]
    assert again.split["train"] == first.split["train"]
    assert [again.train.file(index) for index in range(24)] == [first.train.file(index) for index in range(24)]
    assert len(again.validation) == 7


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda root: None, "there is no such folder or file"),
        (lambda root: root.mkdir(), "no shard, a file that ends with .tar, in it"),
        (lambda root: (root.mkdir(), (root / "a.tar.gz").write_bytes(b"")), "unpack the compressed ones.*a.tar.gz"),
        (lambda root: write_shard(root / "a.tar", samples(9, classes=1)), "one class alone, '0'"),
        (lambda root: write_shard(root / "a.tar", [*samples(9), *samples(9)]), "two images are named 'a.tar/0000.png'"),
        (lambda root: write_shard(root / "a.tar", [("a", {"jpg": b""})]), "no image with a class.*a.jpg: no .cls with"),
        (lambda root: [write_shard(root / f"{part}-1.tar", samples(9)) for part in ("val", "test")],
         "splits test, val; one named train is needed"),
    ],
)  # fmt: skip
def test_load_data_refuses_shards_that_it_does_not_understand(tmp_path, write, message):
    write(tmp_path / "data")
    with pytest.raises(ValueError, match=message) as raised:
        load(tmp_path / "data")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("{", "_info.json is not understood"),
        ('{"splits": {"train": {"filenames": ["b.tar"]}}}', "1 shards of _info.json are missing, as 'b.tar'"),
        ('{"splits": {"train": {"filenames": ["a.tar"], "alt_label": "x"}}}', "alt_label='x'; classes are read from"),
    ],
)
def test_load_data_refuses_an_info_json_that_it_does_not_understand(tmp_path, info, message):
    write_shard(tmp_path / "a.tar", samples(9))
    (tmp_path / "_info.json").write_text(info)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_load_data_refuses_streams_and_names_without_data():
    for spec, message in (
        ("hfids/x", "hfids reads a stream.*hfds/ reads the same data"),
        ("tfds/x", "tfds reads a stream"),
        ("wds/", "it names no data; write wds/NAME"),
        ("wds/https://x.y/z.tar", "no such folder or file; copy the shards to this machine"),
        ("torch/mnits", "mnist"),
    ):
        with pytest.raises(ValueError, match=message):
            foveal.load_data(spec)
    with pytest.raises(ValueError, match=r"groups='g\.csv': 'wds/x' is no data of image files"):
        foveal.load_data("wds/x", groups="g.csv")
